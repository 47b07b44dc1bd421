package postgres_test

import (
	"context"
	"testing"

	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store"
)

// BenchmarkLoad measures both readings of the log that an issuer makes when it starts: the set of revocations, and the
// pages for its gates.
func BenchmarkLoad(b *testing.B) {
	server := testpostgres.Shared(b)
	url := server.Database()
	s := open(b, options(b, url))
	const n = 1_000_000
	server.Exec(url.Database, `INSERT INTO tallygate.revocations (kind, subject, seq, client, until)
		SELECT 1, sha256(int4send(n::int)), n, 'orders', now() + interval '1 hour' FROM generate_series(1, 1000000) n`,
		"UPDATE tallygate.revocation_head SET seq = 1000000")
	b.Run("Revocations", func(b *testing.B) {
		for b.Loop() {
			read := 0
			if err := s.Revocations(func(store.Revocation) error { read++; return nil }); err != nil || read != n {
				b.Fatalf("Revocations read %d revocations, %v; want %d and nil", read, err, n)
			}
		}
	})
	b.Run("Follow", func(b *testing.B) {
		for b.Loop() {
			read := 0
			ctx, complete := context.WithCancel(context.Background())
			err := s.Follow(ctx, func(page store.Page) {
				if read += len(page.Additions); page.After == page.Seq {
					complete()
				}
			})
			if err != nil || read != n {
				b.Fatalf("Follow read %d revocations, %v; want %d and nil", read, err, n)
			}
		}
	})
}

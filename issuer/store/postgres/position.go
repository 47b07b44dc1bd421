package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// A position is how far Follow has read. Its zero value is the beginning of any log.
type position struct {
	revocation.Position
	seq    uint64    // number of the last revocation that was read, which may be below Seq
	stored time.Time // when that revocation was stored
}

// take moves p to the end of page.
func (p *position) take(page *store.Page) {
	p.Position = revocation.Position{Epoch: page.Epoch, Seq: page.Seq}
	if n := len(page.Additions); n > 0 {
		p.seq, p.stored = page.Additions[n-1].Seq, page.Additions[n-1].Stored
	}
}

// continues reports whether page, which was read behind p, is of the same log.
func (p *position) continues(page *store.Page) bool {
	return p.Epoch == "" || page.Epoch == p.Epoch && page.Seq >= p.Seq
}

// errRestored means that the log is not the continuation of the log that was read. It is read again from its beginning.
var errRestored = errors.New("the log of revocations is not the continuation of the log that was read: the database was restored or failed over")

// verifyLast compares the last revocation that was read with the log, on a new connection. A restored copy of the
// database that has the same epoch uses numbers again, and then the number of that revocation may belong to another
// revocation.
func (s *Store) verifyLast(ctx context.Context, conn *pgx.Conn, last *position) error {
	if last.seq == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	var stored time.Time
	err := conn.QueryRow(ctx, "SELECT stored FROM tallygate.revocations WHERE seq = $1", int64(last.seq)).Scan(&stored)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // it was extended, which gave it another number, or it has expired
		return nil
	case err != nil:
		return err
	case stored.Equal(last.stored):
		return nil
	}
	return s.renumber(ctx, conn, last)
}

// renumber gives the log a new epoch, unless another process has done so, because its numbers no longer mean what they
// meant for its readers. It returns errRestored, and last is the beginning of the log afterwards.
func (s *Store) renumber(ctx context.Context, conn *pgx.Conn, last *position) error {
	// The first 36 characters of the epoch are the UUID.
	const renew = "UPDATE tallygate.revocation_head SET epoch = gen_random_uuid() WHERE epoch::text = left($1, 36)"
	if _, err := conn.Exec(ctx, renew, last.Epoch); err != nil {
		return err
	}
	*last = position{}
	return errRestored
}

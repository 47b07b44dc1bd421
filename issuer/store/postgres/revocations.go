package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

const (
	// maxSubject is the longest subject that fits into an entry of the primary key, which has at most
	// 2704 bytes.
	maxSubject = 2000

	// channel is where a transaction that adds revocations notifies the other issuers.
	channel = "tallygate_revocations"

	// pageSize is the number of revocations that are read at once.
	pageSize = 1000
)

// Revoke stores revocation at the head of the log. If a revocation with the same kind and subject is
// already stored, the stored revocation gets the later IssuedBy and the later Until of the two, and
// moves to the head.
func (s *Store) Revoke(revocation store.Revocation) error {
	if len(revocation.Subject) > maxSubject {
		return fmt.Errorf("the subject has %d bytes, more than %d", len(revocation.Subject), maxSubject)
	}
	return s.revocations.add(revocation)
}

// storeRevocations adds all to the log in one transaction.
func (s *Store) storeRevocations(all []store.Revocation) ([]error, error) {
	err := s.call(func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			var head int64
			// The lock of the row is held until the commit.
			if err := tx.QueryRow(ctx, "UPDATE tallygate.revocation_head SET seq = seq + $1 RETURNING seq", len(all)).Scan(&head); err != nil {
				return err
			}
			writes := new(pgx.Batch)
			for i, r := range all {
				writes.Queue(`INSERT INTO tallygate.revocations AS r (kind, subject, seq, client, issued_by, until) VALUES ($1, $2, $3, $4, $5, $6)
					ON CONFLICT (kind, subject) DO UPDATE SET seq = excluded.seq, issued_by = greatest(r.issued_by, excluded.issued_by),
						until = CASE WHEN r.until IS NULL OR excluded.until IS NULL THEN NULL ELSE greatest(r.until, excluded.until) END`,
					int16(r.Kind), []byte(r.Subject), head-int64(len(all)-1-i), r.Client, toNullable(r.IssuedBy), toNullable(r.Until))
			}
			writes.Queue("SELECT pg_notify($1, '')", channel)
			return tx.SendBatch(ctx, writes).Close()
		})
	})
	return make([]error, len(all)), err
}

// Revocations calls yield with every revocation, outside of transactions. It stops at the first error
// and returns this error. Revocations that are stored during the call may be missing.
func (s *Store) Revocations(yield func(store.Revocation) error) error {
	began := time.Since(s.opened)
	var after int64
	for {
		var page []loggedRevocation
		err := s.call(func(ctx context.Context) (err error) {
			page, err = readPage(ctx, s.pool, after)
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := yield(r.Revocation); err != nil {
				return err
			}
			after = r.seq
		}
		if len(page) < pageSize {
			s.syncedAt.Store(int64(began))
			return nil
		}
	}
}

type loggedRevocation struct {
	store.Revocation
	seq int64
}

// readPage returns up to pageSize revocations whose numbers are above after, in the order of the
// numbers.
func readPage(ctx context.Context, from querier, after int64) ([]loggedRevocation, error) {
	rows, err := from.Query(ctx, "SELECT seq, kind, subject, client, issued_by, until FROM tallygate.revocations WHERE seq > $1 ORDER BY seq LIMIT $2", after, pageSize)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r loggedRevocation, err error) {
		var kind int16
		var subject []byte
		var issuedBy, until *time.Time
		err = row.Scan(&r.seq, &kind, &subject, &r.Client, &issuedBy, &until)
		r.Kind, r.Subject = revocation.Kind(kind), string(subject)
		r.IssuedBy, r.Until = fromNullable(issuedBy), fromNullable(until)
		return r, err
	})
}

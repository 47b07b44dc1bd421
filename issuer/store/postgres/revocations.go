package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

const (
	// maxSubject is the longest subject that fits into an entry of the primary key, which has at most
	// 2704 bytes.
	maxSubject = 2000

	// channel is where a transaction that adds revocations notifies the other issuers.
	channel = "tallygate_revocations"

	// pageSize is the number of revocations that are read at once. A page has at most 5,000 × (maxSubject + 500) = 12.5 MB,
	// and 5,000 tokens are 0.5 MB. A reader gets a page within pollTimeout on a busy machine too.
	pageSize = 5000
)

// Revoke stores revocation at the head of the log. If a revocation with the same kind and subject is
// already stored, the stored revocation gets the later IssuedBy and the later Until of the two, and
// moves to the head. The texts for the audit must pass [store.Revocation.CheckAudit].
func (s *Store) Revoke(revocation store.Revocation) error {
	if len(revocation.Subject) > maxSubject {
		return fmt.Errorf("the subject has %d bytes, more than %d", len(revocation.Subject), maxSubject)
	}
	if err := revocation.CheckAudit(); err != nil {
		return err
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
					ON CONFLICT (kind, subject) DO UPDATE SET seq = excluded.seq, stored = excluded.stored, issued_by = greatest(r.issued_by, excluded.issued_by),
						until = CASE WHEN r.until IS NULL OR excluded.until IS NULL THEN NULL ELSE greatest(r.until, excluded.until) END`,
					int16(r.Kind), []byte(r.Subject), head-int64(len(all)-1-i), r.Client, toNullable(r.IssuedBy), toNullable(r.Until))
				if r.Actor != "" {
					writes.Queue("INSERT INTO tallygate.audit (kind, subject, issued_by, until, actor, reason) VALUES ($1, $2, $3, $4, $5, $6)",
						int16(r.Kind), []byte(r.Subject), toNullable(r.IssuedBy), toNullable(r.Until), r.Actor, r.Reason)
				}
			}
			writes.Queue("SELECT pg_notify($1, '')", channel)
			return tx.SendBatch(ctx, writes).Close()
		})
	})
	return make([]error, len(all)), err
}

// Revocations calls yield with every revocation, outside of transactions. It stops at the first error
// and returns this error. Revocations that are stored during the call may be missing, and yield may be
// called several times with the same revocation.
func (s *Store) Revocations(yield func(store.Revocation) error) error {
	began := time.Since(s.opened)
	var after position
	for {
		var page reading
		err := s.call(func(ctx context.Context) (err error) {
			page, err = readPage(ctx, s.pool, after)
			return err
		})
		switch {
		case err != nil:
			return err
		case !after.continues(&page):
			after = position{}
			continue
		}
		for i := range page.Additions {
			if err := yield(page.Additions[i].Revocation); err != nil {
				return err
			}
		}
		after.take(&page.Page)
		if page.complete {
			s.syncedAt.Store(int64(began))
			return nil
		}
	}
}

// readHead is the epoch of the log and the number of its last revocation. The epoch has the timeline of the server, which
// is the first 8 characters in the name of a WAL file: a standby that is promoted may lack the last commits, and starts
// a new timeline. LIMIT says that there is one row: without it PostgreSQL expects 1,540 rows, and spends 0.2 s on compiling
// each statement that joins them with a long log.
const readHead = `SELECT epoch::text || '-' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS epoch, seq AS head FROM tallygate.revocation_head LIMIT 1`

// A reading is the result of readPage.
type reading struct {
	store.Page
	complete bool       // the log had no more revocations
	last     *time.Time // when the revocation with the number after.seq was stored, or nil if the log has no such number
}

// readPage returns up to pageSize revocations whose numbers are above after, in the order of the numbers. The head and the
// revocations are read by one statement, so that they belong together.
func readPage(ctx context.Context, from querier, after position) (reading, error) {
	var page reading
	rows, err := from.Query(ctx, "SELECT h.epoch, h.head, (SELECT stored FROM tallygate.revocations WHERE seq = $3), r.seq, r.kind, r.subject, r.client, r.issued_by, r.until, r.stored FROM ("+
		readHead+`) h LEFT JOIN LATERAL (SELECT * FROM tallygate.revocations WHERE seq > $1 ORDER BY seq LIMIT $2) r ON true ORDER BY r.seq`, int64(after.Seq), pageSize, int64(after.seq))
	if err != nil {
		return page, err
	}
	var head int64
	var a scannedAddition
	columns := []any{&page.Epoch, &head, &page.last, &a.seq, &a.kind, &a.subject, &a.client, &a.issuedBy, &a.until, &a.stored}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		clear(columns[:3]) // the same in every row
		if a.seq.Valid {   // NULL in the only row if there are no revocations
			page.Additions = append(page.Additions, a.addition())
		}
		return nil
	})
	if err != nil {
		return page, err
	}
	page.After, page.Seq = after.Seq, uint64(max(head, 0))
	if page.complete = len(page.Additions) < pageSize; !page.complete {
		page.Seq = page.Additions[pageSize-1].Seq
	}
	return page, nil
}

// A scannedAddition is a row of the log, whose columns are NULL in the row of a page without revocations. A start reads
// many rows, so their columns are scanned without allocations where that is possible.
type scannedAddition struct {
	seq                     pgtype.Int8
	kind                    pgtype.Int2
	subject                 pgtype.DriverBytes // valid until the next row
	client                  pgtype.Text
	issuedBy, until, stored scannedTime
}

func (a *scannedAddition) addition() store.Addition {
	return store.Addition{
		Revocation: store.Revocation{
			Kind: revocation.Kind(a.kind.Int16), Subject: string(a.subject), Client: a.client.String,
			IssuedBy: a.issuedBy.Time, Until: a.until.Time,
		},
		Seq: uint64(a.seq.Int64), Stored: a.stored.Time,
	}
}

// A scannedTime is a column with a time in UTC, or the zero time for NULL.
type scannedTime struct{ time.Time }

// ScanTimestamptz refuses infinity, which no issuer writes, because its meaning would depend on the column.
func (t *scannedTime) ScanTimestamptz(column pgtype.Timestamptz) error {
	if column.InfinityModifier != pgtype.Finite {
		return errors.New("the time is infinity")
	}
	t.Time = time.Time{}
	if column.Valid {
		t.Time = column.Time.UTC()
	}
	return nil
}

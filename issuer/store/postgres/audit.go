package postgres

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// Audit returns up to limit records whose numbers are below before, newest first; before = 0 means from the newest. A
// limit above [store.AuditPage] counts as AuditPage.
func (s *Store) Audit(before uint64, limit int) (page []store.AuditRecord, err error) {
	if before == 0 {
		before = math.MaxInt64
	}
	err = s.call(func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, "SELECT number, time, kind, subject, issued_by, until, actor, reason FROM tallygate.audit WHERE number < $1 ORDER BY number DESC LIMIT $2",
			int64(min(before, math.MaxInt64)), max(0, min(limit, store.AuditPage)))
		if err != nil {
			return err
		}
		page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r store.AuditRecord, err error) {
			var number int64
			var kind int16
			var subject []byte
			var issuedBy, until *time.Time
			err = row.Scan(&number, &r.Time, &kind, &subject, &issuedBy, &until, &r.Actor, &r.Reason)
			r.Number, r.Time, r.Kind, r.Subject = uint64(number), r.Time.UTC(), revocation.Kind(kind), string(subject)
			r.IssuedBy, r.Until = fromNullable(issuedBy), fromNullable(until)
			return r, err
		})
		return err
	})
	return page, err
}

// given selects the records in the parameters, and missing selects the records of given that the audit lacks. A
// record has no key that two databases share: its columns, with the time in microseconds, identify the record.
const (
	given = `unnest($1::timestamptz[], $2::smallint[], $3::bytea[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[])
		WITH ORDINALITY AS g (time, kind, subject, issued_by, until, actor, reason, position)`
	missing = given + ` WHERE NOT EXISTS (SELECT FROM tallygate.audit a WHERE a.time = g.time AND a.kind = g.kind AND a.subject = g.subject
		AND a.actor = g.actor AND a.reason = g.reason)`
)

// importAudit copies the audit of from, oldest first, and returns the number of its records. Records that the database
// already has stay.
func (s *Store) importAudit(from *store.File) (n int, err error) {
	return eachAudit(from, func(page []any) error {
		return s.call(func(ctx context.Context) error {
			_, err := s.pool.Exec(ctx, "INSERT INTO tallygate.audit (time, kind, subject, issued_by, until, actor, reason) SELECT time, kind, subject, issued_by, until, actor, reason FROM "+
				missing+" ORDER BY position", page...)
			return err
		})
	})
}

// verifyAudit returns an error if a record of from's audit is not in the database.
func (s *Store) verifyAudit(from *store.File) error {
	_, err := eachAudit(from, func(page []any) error {
		var lacks int
		err := s.call(func(ctx context.Context) error {
			return s.pool.QueryRow(ctx, "SELECT count(*) FROM "+missing, page...).Scan(&lacks)
		})
		if err == nil && lacks > 0 {
			err = errors.New("an audit record is not in the database after the import")
		}
		return err
	})
	return err
}

// eachAudit calls do with the audit of from in pages, oldest first, each as the parameters of given. It returns the number
// of records.
func eachAudit(from *store.File, do func(page []any) error) (n int, err error) {
	var all []store.AuditRecord // at most 65,536
	for before := uint64(0); ; {
		page, err := from.Audit(before, store.AuditPage)
		if err != nil {
			return 0, err
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		before = page[len(page)-1].Number
	}
	slices.Reverse(all)
	for page := range slices.Chunk(all, pageSize) {
		if err := do(auditColumns(page)); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}

func auditColumns(page []store.AuditRecord) []any {
	var times []time.Time
	var kinds []int16
	var subjects [][]byte
	var issuedBy, until []*time.Time
	var actors, reasons []string
	for i := range page {
		r := &page[i]
		times, kinds, subjects = append(times, r.Time), append(kinds, int16(r.Kind)), append(subjects, []byte(r.Subject))
		issuedBy, until = append(issuedBy, toNullable(r.IssuedBy)), append(until, toNullable(r.Until))
		actors, reasons = append(actors, r.Actor), append(reasons, r.Reason)
	}
	return []any{times, kinds, subjects, issuedBy, until, actors, reasons}
}

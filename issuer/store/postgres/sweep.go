package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// The keys of advisory locks. The first 4 bytes are the text "tall".
const (
	migrationLock = 0x74616c6c_00000001
	keyLock       = 0x74616c6c_00000002
	sweepLock     = 0x74616c6c_00000003
)

// sweepBatch is the number of rows that one transaction removes.
const sweepBatch = 1000

// Sweep removes expired tokens and revocations whose Until is before now, in whole seconds, and returns
// the number of removed records. Each transaction removes a bounded number of rows, found by an index.
// While another process sweeps, Sweep removes nothing. If the clock of this machine is wrong, Sweep removes nothing and
// its error wraps [store.ErrUnavailable].
func (s *Store) Sweep(now time.Time) (int, error) {
	limit := time.Unix(now.Unix(), 0)
	removed := 0
	for _, remove := range []func(context.Context, pgx.Tx, time.Time) (int, error){sweepTokens, sweepRevocations} {
		for {
			n := 0
			err := s.call(func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
					if err := s.requireClock(ctx, tx); err != nil {
						return err
					}
					var locked bool
					if err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", sweepLock).Scan(&locked); err != nil || !locked {
						return err
					}
					var err error
					n, err = remove(ctx, tx, limit)
					return err
				})
			})
			if err != nil {
				return removed, err
			}
			removed += n
			if n < sweepBatch {
				break
			}
		}
	}
	return removed, nil
}

func sweepTokens(ctx context.Context, tx pgx.Tx, limit time.Time) (int, error) {
	rows, err := tx.Query(ctx, `DELETE FROM tallygate.tokens WHERE sum = ANY (ARRAY(
		SELECT sum FROM tallygate.tokens WHERE expires < $1 ORDER BY expires LIMIT $2)) RETURNING client, octet_length(record)`, limit, sweepBatch)
	if err != nil {
		return 0, err
	}
	refunds := make(map[string]int64)
	n := 0
	var client string
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&client, &size}, func() error {
		n++
		if client != "" {
			refunds[client] -= size + tokenOverhead
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, addUsage(ctx, tx, refunds, nil)
}

func sweepRevocations(ctx context.Context, tx pgx.Tx, limit time.Time) (int, error) {
	// The condition is repeated outside, because a revocation may be extended at the same time.
	tag, err := tx.Exec(ctx, `DELETE FROM tallygate.revocations WHERE until < $1 AND seq = ANY (ARRAY(
		SELECT seq FROM tallygate.revocations WHERE until < $1 ORDER BY until LIMIT $2))`, limit, sweepBatch)
	return int(tag.RowsAffected()), err
}

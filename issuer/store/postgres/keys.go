package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallygate/tallygate/issuer/store"
)

// Keys returns the signing keys in the order of their creation.
func (s *Store) Keys() (keys []store.Key, err error) {
	err = s.call(func(ctx context.Context) error {
		keys = nil
		stored, err := readKeys(ctx, s.pool)
		for _, k := range stored {
			private, noKey := s.seal.open(k.ID, k.sealed)
			if noKey != nil {
				return noKey
			}
			k.Private = private
			keys = append(keys, k.Key)
		}
		return err
	})
	return keys, err
}

// A storedKey is a key in the database. Its Private is not set.
type storedKey struct {
	store.Key
	sealed []byte
	age    time.Duration // since the key was stored, by the clock of the database
}

// A querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func readKeys(ctx context.Context, from querier) ([]storedKey, error) {
	rows, err := from.Query(ctx, `SELECT kid, algorithm, sealed, created, activated, retired,
		(extract(epoch FROM clock_timestamp() - stored) * 1000)::bigint FROM tallygate.keys ORDER BY position`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k storedKey, err error) {
		var created, activated, retired *time.Time
		var age int64
		err = row.Scan(&k.ID, &k.Algorithm, &k.sealed, &created, &activated, &retired, &age)
		k.Created, k.Activated, k.Retired = fromNullable(created), fromNullable(activated), fromNullable(retired)
		k.age = time.Duration(age) * time.Millisecond
		return k, err
	})
}

// ReplaceKeys replaces the stored keys. The error is [store.ErrChanged] if the stored keys are not
// previous, and [store.ErrUnpublished] if a key would sign that was stored less than
// [store.LeastPublished] ago. If the clock of this machine is wrong, the error wraps [store.ErrUnavailable], because the
// times of the keys say when tokens of a retired key have expired.
func (s *Store) ReplaceKeys(previous, keys []store.Key) error {
	sorted := slices.SortedStableFunc(slices.Values(keys), func(a, b store.Key) int { return a.Created.Compare(b.Created) })
	sealed := make([][]byte, len(sorted))
	for i, k := range sorted {
		var err error
		if sealed[i], err = s.seal.seal(k.ID, k.Private); err != nil {
			return err
		}
	}
	return s.call(func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if err := lockKeys(ctx, tx); err != nil {
				return err
			}
			if err := s.requireClock(ctx, tx); err != nil {
				return err
			}
			stored, err := readKeys(ctx, tx)
			if err != nil {
				return err
			}
			if err := checkReplacement(stored, previous, keys); err != nil {
				return err
			}
			return writeKeys(ctx, tx, sorted, sealed)
		})
	})
}

// checkReplacement decides whether keys may replace stored.
func checkReplacement(stored []storedKey, previous, keys []store.Key) error {
	present := make([]store.Key, 0, len(stored))
	age := make(map[string]time.Duration, len(stored))
	signed := make(map[string]bool)
	for _, k := range stored {
		present = append(present, k.Key)
		age[k.ID], signed[k.ID] = k.age, !k.Activated.IsZero()
	}
	if !store.SameKeys(present, previous) {
		return store.ErrChanged
	}
	for _, k := range keys {
		if len(stored) > 0 && !k.Activated.IsZero() && k.Retired.IsZero() && !signed[k.ID] && age[k.ID] < store.LeastPublished {
			return fmt.Errorf("%w: it was stored %s ago, and the other issuers publish it within %s", store.ErrUnpublished, age[k.ID].Round(time.Second), store.LeastPublished)
		}
	}
	return nil
}

func writeKeys(ctx context.Context, tx pgx.Tx, keys []store.Key, sealed [][]byte) error {
	kids := make([]string, 0, len(keys))
	writes := new(pgx.Batch)
	for i, k := range keys {
		kids = append(kids, k.ID)
		writes.Queue(`INSERT INTO tallygate.keys (kid, position, algorithm, sealed, created, activated, retired) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (kid) DO UPDATE SET position = excluded.position, algorithm = excluded.algorithm, sealed = excluded.sealed,
				created = excluded.created, activated = excluded.activated, retired = excluded.retired`,
			k.ID, i, k.Algorithm, sealed[i], toNullable(k.Created), toNullable(k.Activated), toNullable(k.Retired))
	}
	writes.Queue("DELETE FROM tallygate.keys WHERE kid <> ALL ($1)", kids)
	return tx.SendBatch(ctx, writes).Close()
}

// sealAgain encrypts signing keys again that were encrypted with another encryption key than the
// first. The operator can then remove the other encryption key.
func (s *Store) sealAgain(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockKeys(ctx, tx); err != nil {
			return err
		}
		stored, err := readKeys(ctx, tx)
		if err != nil {
			return err
		}
		for _, k := range stored {
			if len(s.seal) == 0 || s.seal.isCurrent(k.sealed) {
				continue
			}
			private, err := s.seal.open(k.ID, k.sealed)
			if err != nil {
				return err
			}
			sealed, err := s.seal.seal(k.ID, private)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "UPDATE tallygate.keys SET sealed = $2 WHERE kid = $1", k.ID, sealed); err != nil {
				return err
			}
			s.options.Log.InfoContext(ctx, "signing key encrypted with the first encryption key", "kid", k.ID)
		}
		return nil
	})
}

func lockKeys(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", keyLock)
	return err
}

// toNullable returns NULL for the zero time.
func toNullable(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func fromNullable(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

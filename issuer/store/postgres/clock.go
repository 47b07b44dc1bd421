package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
)

const (
	// maxSkew is the greatest difference between the clocks of this machine and of the database at
	// which tokens are issued. A difference is measured up to the duration of a query, which counts
	// only if it takes less than maxSkew.
	maxSkew = time.Second

	// clockBound is how far the iat of a token may be ahead of the clock of the database: maxSkew, and
	// the uncertainty of its measurement, which is maxSkew too.
	clockBound = 2 * maxSkew
)

// A clockError says that the clocks differ.
type clockError struct{ ahead time.Duration }

func (e *clockError) Error() string {
	return fmt.Sprintf("the clock of this machine differs from the clock of the database by %s, more than %s", e.ahead.Round(time.Millisecond), maxSkew)
}

// compareClocks compares the clock of the machine with the clock of the database.
func (s *Store) compareClocks(ctx context.Context, from querier) error {
	began, before := time.Since(s.opened), s.options.Now()
	var database time.Time
	if err := from.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&database); err != nil {
		return err
	}
	after := s.options.Now()
	var found *clockError
	switch {
	case before.Sub(database) > maxSkew:
		found = &clockError{before.Sub(database)}
	case database.Sub(after) > maxSkew:
		found = &clockError{after.Sub(database)}
	case after.Sub(before) > maxSkew:
		return nil // a slow query says nothing
	}
	s.comparedAt.Store(int64(began))
	if previous := s.clockError.Swap(found); (previous == nil) != (found == nil) {
		if found != nil {
			s.options.Log.WarnContext(ctx, "the clocks of this machine and of the database differ; no tokens are issued", "error", found)
		} else {
			s.options.Log.InfoContext(ctx, "the clocks of this machine and of the database agree again")
		}
	}
	return nil
}

// requireClock returns an error that wraps [store.ErrUnavailable] if the clocks differ. A process whose clock is wrong
// must not remove what only seems to have expired.
func (s *Store) requireClock(ctx context.Context, from querier) error {
	if err := s.compareClocks(ctx, from); err != nil {
		return err
	}
	return s.clockRefusal(time.Since(s.opened))
}

// clockRefusal returns an error that wraps [store.ErrUnavailable] if the clocks differ, or if it is unknown whether they
// do, because every query takes too long. now is the time since opened.
func (s *Store) clockRefusal(now time.Duration) error {
	if now-time.Duration(s.comparedAt.Load()) > staleAfter {
		return fmt.Errorf("%w: the database answers too slowly to compare the clocks", store.ErrUnavailable)
	}
	if err := s.clockError.Load(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return nil
}

// LatestIssue returns a time that is not before the iat of any token that any process has issued so
// far. An issuer issues tokens only while its clock is at most clockBound ahead of the clock of the
// database.
func (s *Store) LatestIssue(now time.Time) (time.Time, error) {
	var database time.Time
	err := s.call(func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&database)
	})
	if latest := database.Add(clockBound); latest.After(now) {
		now = latest
	}
	return now, err
}

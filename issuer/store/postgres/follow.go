package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallygate/tallygate/issuer/store"
)

const (
	// pollInterval is the time between two readings of the log without a notification. Notifications
	// are hints that may be lost.
	pollInterval = time.Second

	// pollTimeout bounds the reading of one page. A connection that stalls without an error, as behind a firewall that
	// drops its packets, is replaced after pollInterval + pollTimeout, before staleAfter.
	pollTimeout = 2 * time.Second

	// staleAfter is the age of the last reading of the log at which the state no longer counts as
	// current. It leaves time for a restart of the database.
	staleAfter = 5 * time.Second

	// The back-off between attempts to connect.
	leastBackoff = 100 * time.Millisecond
	mostBackoff  = 2 * time.Second
)

// Follow calls apply with every revocation in the log, and from then on with each revocation that any
// process adds, within a second of its commit, until ctx ends. It then returns nil. apply may be called
// several times with the same revocation. Follow has a connection of its own, and connects again when
// the connection is lost.
func (s *Store) Follow(ctx context.Context, apply func(store.Revocation)) error {
	backoff := leastBackoff
	for {
		began := time.Now()
		err := s.follow(ctx, apply)
		if ctx.Err() != nil {
			return nil
		}
		s.health.report(err)
		if time.Since(began) > mostBackoff {
			backoff = leastBackoff
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff/2 + rand.N(backoff/2)): //nolint:gosec // jitter, so that issuers do not connect at the same moment, is no secret
		}
		backoff = min(2*backoff, mostBackoff)
	}
}

// follow reads the log from its beginning and then its additions, on one connection. Since the whole
// log is read after each connection, nothing is missed if the database fails over to a server that
// lacks the last commits, and numbers are used again.
func (s *Store) follow(ctx context.Context, apply func(store.Revocation)) error {
	conn, err := s.listen(ctx)
	if err != nil {
		return err
	}
	defer func() { // not the context of the call, which has ended
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	var last position
	for {
		if last, err = s.readAdditions(ctx, conn, last, apply); err != nil {
			return err
		}
		s.health.report(nil)
		wait, cancel := context.WithTimeout(ctx, pollInterval)
		_, err := conn.WaitForNotification(wait)
		cancel()
		if err != nil && (ctx.Err() != nil || !pgconn.Timeout(err)) {
			return err
		}
	}
}

// listen returns a connection that gets the notifications of revocations. It listens before the log is
// read, so that a revocation is either read or notified.
func (s *Store) listen(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	settings := s.connect.Copy()
	if err := setPassword(settings, s.options.Database.PasswordFile); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, settings)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// A position is how far a reader has read: the epoch of the log, "" before the first reading, and a number.
type position struct {
	epoch string
	seq   int64
}

var errRestored = errors.New("the log of revocations is not the continuation of the log that was read: the database was restored")

// advance returns last with the epoch of the log, or an error if numbers up to last may be used again. The head of a
// log that continues is never below a number that was read.
func (last position) advance(ctx context.Context, from querier) (position, error) {
	var head position
	if err := from.QueryRow(ctx, "SELECT epoch::text, seq FROM tallygate.revocation_head").Scan(&head.epoch, &head.seq); err != nil {
		return last, err
	}
	if head.seq < last.seq || last.epoch != "" && head.epoch != last.epoch {
		return last, errRestored
	}
	return position{head.epoch, last.seq}, nil
}

// readAdditions calls apply with the revocations behind last, and returns the new last position.
func (s *Store) readAdditions(ctx context.Context, conn *pgx.Conn, last position, apply func(store.Revocation)) (position, error) {
	began := time.Since(s.opened)
	for {
		page, err := s.pollPage(ctx, conn, &last)
		if err != nil {
			return last, err
		}
		for _, r := range page {
			apply(r.Revocation)
			last.seq = r.seq
		}
		if len(page) < pageSize {
			s.syncedAt.Store(int64(began))
			return last, nil
		}
	}
}

func (s *Store) pollPage(ctx context.Context, conn *pgx.Conn, last *position) (page []loggedRevocation, err error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	if err := s.compareClocks(ctx, conn); err != nil {
		return nil, err
	}
	if *last, err = last.advance(ctx, conn); err != nil {
		return nil, err
	}
	return readPage(ctx, conn, last.seq)
}

// Current returns nil if this process knows every revocation that was acknowledged more than a few
// seconds ago, and if its clock agrees with the clock of the database. Otherwise the error wraps
// [store.ErrUnavailable], and no token may be called active. Current does not allocate if it returns
// nil.
func (s *Store) Current() error {
	now := time.Since(s.opened)
	if age := now - time.Duration(s.syncedAt.Load()); age > staleAfter {
		return fmt.Errorf("%w: the revocations in the database were last read %s ago", store.ErrUnavailable, age.Round(time.Second))
	}
	return s.clockRefusal(now)
}

// health logs when the log of revocations cannot be read, and when it can be read again.
type health struct {
	log    *slog.Logger
	mu     sync.Mutex
	since  time.Time // when the error began, or zero
	warned time.Time
}

// warnInterval is the time between warnings while an error lasts.
const warnInterval = time.Minute

func (h *health) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil && h.since.IsZero():
	case err == nil:
		h.log.Info("revocations are read from the database again", "since", h.since)
		h.since = time.Time{}
	case h.since.IsZero() || now.Sub(h.warned) > warnInterval:
		if h.since.IsZero() {
			h.since = now
		}
		h.warned = now
		h.log.Warn("revocations cannot be read from the database", "since", h.since, "error", err)
	}
}

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

// Follow calls apply with the log from its beginning, page by page, and from then on with each revocation that any
// process adds, within a second of its commit, until ctx ends. It then returns nil. After each complete reading, at
// least once a second, the page is empty. Each page continues the page before it, also after a lost connection. If
// the log is not the continuation of what was read, as after a failover to a server that lacks the last commits,
// the pages have another epoch and begin again. Follow has a connection of its own, and connects again when the
// connection is lost.
func (s *Store) Follow(ctx context.Context, apply func(store.Page)) error {
	var last position
	backoff := leastBackoff
	for {
		began := time.Now()
		err := s.follow(ctx, &last, apply)
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

// follow reads the log behind last on one connection, and moves last to the end of each applied page.
func (s *Store) follow(ctx context.Context, last *position, apply func(store.Page)) error {
	conn, err := s.listen(ctx)
	if err != nil {
		return err
	}
	defer func() { // not the context of the call, which has ended
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	for {
		if err := s.readAdditions(ctx, conn, last, apply); err != nil {
			return err
		}
		s.health.report(nil)
		wait, cancel := context.WithTimeout(ctx, s.pollInterval)
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

// readAdditions calls apply with the pages behind last up to the head, and then with an empty page.
func (s *Store) readAdditions(ctx context.Context, conn *pgx.Conn, last *position, apply func(store.Page)) error {
	began := time.Since(s.opened)
	if err := s.pollClock(ctx, conn); err != nil {
		return err
	}
	for {
		page, err := s.pollPage(ctx, conn, last)
		if err != nil {
			return err
		}
		if page.Seq > last.Seq { // a page without additions: the revocations behind last have expired
			apply(page.Page)
			last.take(&page.Page)
		}
		if page.complete {
			// Current must not change before apply has returned: nothing else says that the page is in effect.
			s.syncedAt.Store(int64(began))
			last.Epoch = page.Epoch // of an empty log too
			apply(store.Page{Epoch: page.Epoch, After: page.Seq, Seq: page.Seq})
			return nil
		}
	}
}

// pollClock compares the clocks, once in each reading of the log and not for each of its pages.
func (s *Store) pollClock(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return s.compareClocks(ctx, conn)
}

// pollPage returns the page behind last. If the log is not the continuation of what was read, last is the beginning of
// the log afterwards.
func (s *Store) pollPage(ctx context.Context, conn *pgx.Conn, last *position) (page reading, err error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	page, err = readPage(ctx, conn, *last)
	if err != nil || last.continues(&page) {
		return page, err
	}
	if page.Epoch == last.Epoch {
		if err := renumber(ctx, conn, page.Epoch); err != nil {
			return page, err
		}
	}
	*last = position{}
	return page, errRestored
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

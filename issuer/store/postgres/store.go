// Package postgres keeps the issuer's state in PostgreSQL, so that several issuers can share it.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/store"
)

const (
	// callTimeout bounds every call, with the time for a new connection. The server ends a statement
	// after statementTimeout, so that a statement does not outlive its call.
	callTimeout      = 5 * time.Second
	statementTimeout = 4 * time.Second

	// connectTimeout bounds a connection to one host.
	connectTimeout = 2 * time.Second

	// maxConnections bounds the connections of a Store. One writer stores tokens, one stores
	// revocations, and the others read tokens. Follow has one connection more.
	maxConnections = 8
)

// Options configures a [Store].
type Options struct {
	Database config.Database
	// Attach says that a schema of another version is an error, and is not created or migrated.
	Attach bool
	Log    *slog.Logger
	Now    func() time.Time // the clock of the machine; nil means time.Now
}

// A Store has the issuer's state in a PostgreSQL database. It is safe for concurrent use. When a method
// that changes the state returns nil, the change is committed and as durable as the database makes a
// commit with synchronous_commit = on.
//
// An error that wraps [store.ErrUnavailable] means that the database could not be reached in time. The
// change may have been stored. A retry is safe: keys are compared before they are replaced, and
// revocations are merged.
type Store struct {
	options       Options
	pool          *pgxpool.Pool
	connect       *pgx.ConnConfig // for Follow
	seal          sealer
	maxTokenBytes int64
	pollInterval  time.Duration

	tokens      *batcher[newToken]
	revocations *batcher[store.Revocation]

	opened     time.Time
	syncedAt   atomic.Int64 // when the last complete reading of the log began: nanoseconds after opened
	comparedAt atomic.Int64 // when the last comparison of the clocks with a result began: nanoseconds after opened
	clockError atomic.Pointer[clockError]
	health     health

	mu     sync.RWMutex // held for reading during calls, and for writing by Close
	closed bool
}

// Open connects to the database and creates or migrates its tables. The error does not contain the
// password.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	settings, err := poolConfig(&o.Database)
	if err != nil {
		return nil, err
	}
	seal, err := newSealer(o.Database.EncryptionKeys)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Database.URL, err)
	}
	s := &Store{
		options: o, pool: pool, connect: settings.ConnConfig, seal: seal, maxTokenBytes: defaultTokenBytes, pollInterval: pollInterval,
		opened: time.Now(), health: health{log: o.Log},
	}
	s.comparedAt.Store(int64(-2 * staleAfter)) // never
	if err := s.prepare(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("%s: %w", o.Database.URL, err)
	}
	s.tokens, s.revocations = newBatcher(s.storeTokens), newBatcher(s.storeRevocations)
	return s, nil
}

// prepare migrates the schema, compares the clocks, and encrypts the signing keys with the first
// encryption key.
func (s *Store) prepare(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return err
	}
	return s.call(func(ctx context.Context) error {
		if err := s.compareClocks(ctx, s.pool); err != nil || s.options.Attach {
			return err
		}
		return s.sealAgain(ctx)
	})
}

// Close waits for the running calls, which are bounded, and closes the connections.
func (s *Store) Close() error {
	s.tokens.stop()
	s.revocations.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.pool.Close()
	}
	return nil
}

// call calls do with a deadline, and once again if the connection was lost before the server got the
// request.
func (s *Store) call(do func(context.Context) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	err := do(ctx)
	if err != nil && pgconn.SafeToRetry(err) && ctx.Err() == nil {
		err = do(ctx)
	}
	if isReadOnly(err) {
		s.pool.Reset() // the server has become a standby
	}
	return translate(err)
}

// translate returns the error for the caller of a Store. An error that is caused by the data stays
// as it is. Every other error, such as a lost connection, a server that shuts down or a full disk,
// becomes [store.ErrUnavailable].
func translate(err error) error {
	var fault *pgconn.PgError
	switch {
	case err == nil, isStoreError(err):
		return err
	case errors.As(err, &fault):
		switch fault.Code[:2] { // the class, PostgreSQL appendix A
		case "22", "23", "42", "XX": // data exception, constraint violation, syntax or access rule, internal error
			return err
		}
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

func isStoreError(err error) bool {
	for _, own := range []error{store.ErrExists, store.ErrShare, store.ErrChanged, store.ErrUnpublished, store.ErrUnavailable, store.ErrClosed, errSealed, errSchema} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// isReadOnly reports whether err says that the server accepts no writes.
func isReadOnly(err error) bool {
	var fault *pgconn.PgError
	return errors.As(err, &fault) && fault.Code == "25006"
}

package issuer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/keyring"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
)

// A state is the durable state: a [*store.File] of one process, or a [*postgres.Store] that several
// processes share. Its methods are safe for concurrent use.
type state interface {
	keyring.Store
	AddToken(sum [32]byte, token store.Token) error
	Token(sum [32]byte) (token store.Token, ok bool, err error)
	Revoke(store.Revocation) error
	// Audit returns up to limit audit records whose numbers are below before, newest first; 0 means from the newest.
	Audit(before uint64, limit int) ([]store.AuditRecord, error)
	// Revocations calls yield with every stored revocation, and may call yield several times with the same
	// revocation.
	Revocations(yield func(store.Revocation) error) error
	// Follow calls apply with every stored revocation, and from then on with each revocation that any process stores,
	// until ctx ends.
	Follow(ctx context.Context, apply func(store.Page)) error
	// Current returns an error while revocations of other processes may be unknown.
	Current() error
	// LatestIssue returns a time that is not before the iat of any token of another process.
	LatestIssue(now time.Time) (time.Time, error)
	Sweep(now time.Time) (int, error)
	Close() error
}

const (
	openTimeout  = time.Minute // longer than the restart of a database takes
	openInterval = time.Second
)

// openStore opens the state that settings names. With attach it changes no tables of a database.
func openStore(settings *config.Issuer, attach bool, log *slog.Logger) (state, error) {
	if settings.Database == nil {
		return store.Open(string(settings.State))
	}
	return postgres.Open(context.Background(), postgres.Options{Database: *settings.Database, Attach: attach, Log: log})
}

// CheckDatabase returns nil if the issuer has no database, or if Open would succeed with its database.
// It changes nothing.
func (i *Issuer) CheckDatabase(ctx context.Context) error {
	if i.settings.Database == nil {
		return nil
	}
	return postgres.Check(ctx, postgres.Options{Database: *i.settings.Database, Log: i.log})
}

// current returns nil if this process knows the revocations and the signing keys of all processes that
// share the state. Otherwise no token may be issued, and no token may be called active.
func (s *shared) current() error {
	if s.state == nil { // only explain and check use an issuer that is not open
		return nil
	}
	if err := s.revocations.complete(); err != nil {
		return err
	}
	return s.state.Current()
}

// currentRefusal returns nil or the refusal of a request that cannot be decided now.
func (i *Issuer) currentRefusal() error {
	if err := errors.Join(i.current(), i.keys.Current()); err != nil {
		return &refusal{temporarilyUnavailable, err}
	}
	return nil
}

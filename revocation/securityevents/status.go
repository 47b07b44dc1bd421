package securityevents

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

var errNoPoll = errors.New("no poll has succeeded yet")

// A status has the results of the polls. It is safe for concurrent use.
type status struct {
	lastSuccess atomic.Pointer[time.Time] // when the last poll that succeeded began; nil before
	lastError   atomic.Pointer[string]    // the last error of a poll since lastSuccess; nil: no error
	synced      chan struct{}             // closed after the first poll that succeeded
	once        sync.Once                 // closes synced
}

// Current returns nil, or an error if revocations by the server may be unknown: the last poll that succeeded began more than
// max_staleness ago, or a pushed token could not be stored. Without polls, the gate cannot know whether the server has an
// event to push.
func (r *Receiver) Current() error {
	if r.unstored.hasTokens() {
		return access.Denyf(access.RevocationsStale, "a security event of %s could not be stored", r.server)
	}
	if r.settings.Poll == nil {
		return nil
	}
	last := r.state.lastSuccess.Load()
	if last == nil {
		return access.Denyf(access.RevocationsStale, "security events of %s: %w", r.server, errNoPoll)
	}
	if age := r.now().Sub(*last); age > r.settings.MaxStaleness || age < 0 {
		return access.Denyf(access.RevocationsStale, "the last poll for security events of %s that succeeded began %s ago", r.server, age.Round(time.Second))
	}
	return nil
}

// Synced returns nil once a poll has succeeded, or if no polls are configured. It returns an error if ctx ends before.
func (r *Receiver) Synced(ctx context.Context) error {
	if r.settings.Poll == nil {
		return nil
	}
	select {
	case <-r.state.synced:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("security events of %s: %w", r.server, errNoPoll)
	}
}

// WhenStale says what happens to the server's tokens while [Receiver.Current] returns an error.
func (r *Receiver) WhenStale() config.WhenRevocationsStale { return r.settings.WhenStale }

// Issuer returns the issuer identifier of the server.
func (r *Receiver) Issuer() string { return r.issuer }

// Server returns the configured name of the server.
func (r *Receiver) Server() string { return r.server }

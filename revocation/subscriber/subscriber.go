// Package subscriber follows the feed of revocations of an issuer in another process. It keeps a set of
// revocations that is as new as the last message of the feed, and knows how old that message is.
package subscriber

import (
	"errors"
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/revocation"
)

// Options are the inputs of [New] besides the settings. All are required.
type Options struct {
	Server  *authserver.Server // the issuer, to which the stream is opened
	Keys    *jwks.Source       // the keys that verify the messages
	Log     *slog.Logger
	Metrics *Metrics
	Now     func() time.Time
	Lease   *reuse.Lease // holds the Subscriber
}

// A Subscriber keeps a stream to an issuer open, and has the revocations that the stream has brought. It is
// safe for concurrent use.
type Subscriber struct {
	set *revocation.Set
}

// ErrStale means that a Subscriber does not know whether its set is complete.
var ErrStale = errors.New("the revocations are out of date")

// New returns the Subscriber for the feed that settings describe. settings are the authorization server that
// cfg.Revocations names. New sends no request. While the settings and the contents of their files do not
// change, all leases share one Subscriber. After a change New makes another Subscriber, which takes over what
// the previous Subscriber knows.
func New(cfg *config.Config, options Options) (*Subscriber, error) {
	return &Subscriber{set: revocation.NewSet()}, nil
}

// Start follows the feed in the background until no lease holds s.
func (s *Subscriber) Start() {}

// Set returns the revocations. The result is always the same Set, which grows.
func (s *Subscriber) Set() *revocation.Set { return s.set }

// Synced reports whether the set has once been complete in the life of the process, or was complete on disk a
// shorter time ago than max_staleness. A process that has not synced is not ready.
func (s *Subscriber) Synced() bool { return false }

// Current returns nil while the set is complete, as far as can be known: the issuer has said so less than
// max_staleness ago. Otherwise the error wraps [ErrStale] and says since when. Current is called for every
// request; it takes no lock, and does not allocate while the set is complete.
func (s *Subscriber) Current() error { return ErrStale }

// Status is the state of a Subscriber at one moment, for operators.
type Status struct {
	Feed      string              // host of the feed in use or last tried; "" before the first try
	Connected bool                // the feed has answered and the stream is open
	Since     time.Time           // when Connected changed
	Failure   error               // why the last stream ended or was not opened; nil before the first failure
	Position  revocation.Position // of the last message
	LastSync  time.Time           // when the set was last known to be complete; zero: never
	Stale     error               // what [Subscriber.Current] returns
	Full      bool                // the set had no room for a revocation
}

// Status returns the state of s.
func (s *Subscriber) Status() Status { return Status{} }

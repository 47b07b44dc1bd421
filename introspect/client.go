// Package introspect asks authorization servers about opaque tokens by introspection, RFC 7662. It
// returns the claims of active tokens and caches them for a limited time. Package validate decides on
// every request whether a token is accepted.
package introspect

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/singleflight"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/refresh"
	"github.com/tallygate/tallygate/internal/reuse"
)

const (
	// breakerFailures is the number of server failures in a row that open the circuit breaker.
	// Failures that a single token or client can cause do not count.
	breakerFailures = 5
	// defaultBreakerTimeout is how long an open circuit breaker refuses requests. After this time it
	// allows one request, and closes if this request succeeds.
	defaultBreakerTimeout = 5 * time.Second
)

// Options are what a [Client] needs in addition to its configuration.
type Options struct {
	Remote  *authserver.Server // required
	Keys    *jwks.Source       // required for signed responses
	Memory  *cache.Pool        // required
	Log     *slog.Logger       // required
	Metrics *Metrics           // required
	Now     func() time.Time
	// Lease, which is required, holds the client.
	Lease *reuse.Lease

	breakerTimeout time.Duration // 0 means defaultBreakerTimeout
}

// A Client introspects tokens at one authorization server. It is safe for concurrent use.
type Client struct {
	server          string // configured name
	issuer          string
	audiences       []string
	mapping         *facts.Mapping
	leeway          time.Duration
	settings        config.Introspection
	remote          *authserver.Server
	keys            *jwks.Source
	credentials     credentials
	queue           *fairQueue
	unknownTokens   unknownTokenLimiter
	breaker         *gobreaker.CircuitBreaker[*response]
	breakerTimeout  time.Duration
	flights         singleflight.Group // shares one request among calls for one token
	cache           responseCache
	credentialCheck credentialCheck
	lastFailure     atomic.Pointer[failure] // the last request that failed
	lastSuccess     atomic.Int64            // Unix time in nanoseconds of the last response; 0 if there was none
	task            refresh.Task            // calls Run in the background
	log             *slog.Logger
	metrics         clientMetrics
	allMetrics      *Metrics // the metrics of all servers
	now             func() time.Time

	// background is the context of requests that outlive the request that caused them.
	background context.Context
	cancel     context.CancelFunc
}

// New returns the client for the server that settings describes. settings.Introspection must be set.
// Leases share the client while its settings and keys are unchanged. Otherwise New makes a client,
// which shares the cache of the previous client if canShareCache allows it. New reads the secrets and
// returns an error if a secret is missing. It sends no request.
func New(settings config.AuthorizationServer, options Options) (*Client, error) {
	c := &Client{
		server: string(settings.Name), issuer: string(settings.Issuer), audiences: settings.Audiences, leeway: settings.Leeway,
		mapping:  facts.NewMapping(&settings).ForResponses(),
		settings: *settings.Introspection, remote: options.Remote, keys: options.Keys,
		credentials:     credentials{settings.Introspection.Authentication, string(settings.Introspection.ClientID), string(settings.Issuer)},
		queue:           newFairQueue(settings.Introspection.Concurrency),
		credentialCheck: credentialCheck{interval: recheckAfter, requests: make(chan struct{}, 1)},
		breakerTimeout:  cmp.Or(options.breakerTimeout, defaultBreakerTimeout),
		log:             options.Log, now: options.Now,
		metrics: options.Metrics.forServer(options.Lease, string(settings.Name)), allMetrics: options.Metrics,
	}
	if err := c.credentials.check(); err != nil {
		return nil, err
	}
	return reuse.Acquire(options.Lease, c.server, c.key(), func(previous *Client) (*Client, error) {
		return c.open(previous, options.Memory)
	}, (*Client).close)
}

// key returns the values that c is made from. It returns nil, which equals no other key, if signed responses
// are verified with a key set that is not fetched: each reload must read this key set again.
func (c *Client) key() any {
	key := []any{c.remote.Key(), c.settings, c.audiences, c.mapping, c.leeway}
	if !c.settings.Signed {
		return key
	}
	if keys := c.keys.Key(); keys != nil {
		return append(key, keys)
	}
	return nil
}

// open initialises the parts of c that New leaves empty. previous may be nil.
func (c *Client) open(previous *Client, memory *cache.Pool) (_ *Client, err error) {
	if c.unknownTokens, err = newUnknownTokenLimiter(); err != nil {
		return nil, err
	}
	c.cache = newResponseCache(c.settings.Cache, memory, c.allMetrics)
	if previous != nil && c.canShareCache(previous) {
		c.cache.shareWith(&previous.cache)
	}
	c.breaker = gobreaker.NewCircuitBreaker[*response](gobreaker.Settings{
		Name:          c.server,
		Timeout:       c.breakerTimeout,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerFailures },
		IsExcluded:    callerFault,
		OnStateChange: c.logBreakerState,
	})
	c.background, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// callerFault reports whether the token or its client may have caused err, and not the server. Such
// errors must not open the circuit breaker for other clients or extend the use of a stale cache
// entry.
func callerFault(err error) bool {
	return errors.Is(err, errTokenCaused) || errors.Is(err, errRateLimited) || errors.Is(err, errNoPermit) || errors.Is(err, errCanceled)
}

// canShareCache reports whether the responses that previous cached are also valid responses to c.
// Timeout, concurrency and stale_on_error may differ.
func (c *Client) canShareCache(previous *Client) bool {
	was := previous.settings
	was.Timeout, was.Concurrency, was.Cache.StaleOnError = c.settings.Timeout, c.settings.Concurrency, c.settings.Cache.StaleOnError
	signed := !c.settings.Signed || c.keys == previous.keys && c.leeway == previous.leeway && slices.Equal(c.audiences, previous.audiences)
	completed := !c.settings.InsecureAudienceOptional || slices.Equal(c.audiences, previous.audiences) // the client adds its audience to responses without aud
	return signed && completed && reflect.DeepEqual(c.mapping, previous.mapping) && c.remote.CanReuse(previous.remote) && reflect.DeepEqual(c.settings, was)
}

func (c *Client) logBreakerState(_ string, _, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		c.log.Warn("introspection suspended", "issuer", c.server, "after_failures", breakerFailures, "for", c.breakerTimeout.String())
	case gobreaker.StateClosed:
		c.log.Info("introspection resumed", "issuer", c.server)
	case gobreaker.StateHalfOpen: // one request tests the server
	}
}

// suspended reports whether the circuit breaker is open or half open.
func (c *Client) suspended() bool { return c.breaker.State() != gobreaker.StateClosed }

// Start registers c with the metrics and checks the gate's credentials in the background, until no
// lease holds c. It may be called more than once.
func (c *Client) Start() {
	c.allMetrics.register(c)
	c.task.Start(c.Run)
}

// close ends the work that Start began, and releases the cache. Requests under way still get their
// responses, within the timeout.
func (c *Client) close() {
	c.task.Stop()
	c.allMetrics.unregister(c)
	c.cache.release()
}

// CancelRequests cancels the background requests. It is called at the end of the process.
func (c *Client) CancelRequests() { c.cancel() }

// Ready returns nil if the endpoint is known and the server accepted the gate's credentials in
// the last check.
func (c *Client) Ready() error {
	if _, err := c.endpoint(); err != nil {
		return err
	}
	return c.credentialCheck.ready()
}

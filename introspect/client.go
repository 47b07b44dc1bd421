// Package introspect asks authorization servers about opaque tokens by introspection, RFC 7662.
// It returns the claims of active tokens and caches them for a while. It does not decide whether
// a token may pass; package validate does, on every request.
package introspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/singleflight"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jwks"
)

const (
	// breakerFailures is the number of server failures in a row that open the circuit breaker.
	// Failures that a single token or client can cause do not count.
	breakerFailures = 5
	// breakerTimeout is how long an open circuit breaker refuses requests. Then it allows one
	// request, and closes if the request succeeds.
	breakerTimeout = 5 * time.Second
)

// Options are what a [Client] needs in addition to its configuration.
type Options struct {
	Remote  *authserver.Server // required
	Keys    *jwks.Source       // required for signed responses
	Memory  *cache.Pool        // required
	Log     *slog.Logger       // required
	Metrics *Metrics           // required
	Now     func() time.Time
	// Previous is the client before a reload; nil without one.
	Previous *Client
}

// A Client introspects tokens at one authorization server. It is safe for concurrent use.
type Client struct {
	server          string // configured name
	issuer          string
	audiences       []string
	leeway          time.Duration
	settings        config.Introspection
	remote          *authserver.Server
	keys            *jwks.Source
	credentials     credentials
	queue           *fairQueue
	unknownTokens   unknownTokenLimiter
	breaker         *gobreaker.CircuitBreaker[*response]
	flights         singleflight.Group // of requests for one token
	cache           responseCache
	credentialCheck credentialCheck
	log             *slog.Logger
	metrics         clientMetrics
	allMetrics      *Metrics // of all servers
	now             func() time.Time

	// background is the context of requests that outlive the request that caused them.
	background context.Context
	cancel     context.CancelFunc
}

// New returns the client for the server that settings describes, whose Introspection is set. If
// nothing has changed it returns options.Previous; otherwise the new client shares the cache of
// the previous client if it may. New reads the secrets and returns an error if one is missing. It
// sends no request.
func New(settings config.AuthorizationServer, options Options) (*Client, error) {
	c := &Client{
		server: string(settings.Name), issuer: string(settings.Issuer), audiences: settings.Audiences, leeway: settings.Leeway,
		settings: *settings.Introspection, remote: options.Remote, keys: options.Keys,
		credentials:     credentials{settings.Introspection.Authentication, string(settings.Introspection.ClientID), string(settings.Issuer)},
		queue:           newFairQueue(settings.Introspection.Concurrency),
		credentialCheck: credentialCheck{interval: recheckAfter, requests: make(chan struct{}, 1)},
		log:             options.Log, now: options.Now,
		metrics: options.Metrics.forServer(string(settings.Name)), allMetrics: options.Metrics,
	}
	if err := c.credentials.check(); err != nil {
		return nil, err
	}
	if previous := options.Previous; previous != nil && previous.sameAs(c) {
		return previous, nil
	}
	var err error
	if c.unknownTokens, err = newUnknownTokenLimiter(); err != nil {
		return nil, err
	}
	c.cache = newResponseCache(settings.Introspection.Cache, options.Memory, options.Metrics)
	if previous := options.Previous; previous != nil && c.canShareCache(previous) {
		c.cache.shareWith(&previous.cache)
	}
	c.breaker = gobreaker.NewCircuitBreaker[*response](gobreaker.Settings{
		Name:          c.server,
		Timeout:       breakerTimeout,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerFailures },
		IsExcluded:    callerFault,
		OnStateChange: c.logBreakerState,
	})
	c.background, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// callerFault reports whether err may have been caused by the token or its client and not by the
// server. Such errors must not open the circuit breaker for other clients or extend the use of a
// stale cache entry.
func callerFault(err error) bool {
	return errors.Is(err, errTokenCaused) || errors.Is(err, errRateLimited) || errors.Is(err, errNoPermit) || errors.Is(err, errCanceled)
}

// canShareCache reports whether the responses that previous cached are as good as responses to c.
// Timeout, concurrency and stale_on_error may differ.
func (c *Client) canShareCache(previous *Client) bool {
	was := previous.settings
	was.Timeout, was.Concurrency, was.Cache.StaleOnError = c.settings.Timeout, c.settings.Concurrency, c.settings.Cache.StaleOnError
	signed := !c.settings.Signed || c.keys == previous.keys && c.leeway == previous.leeway && slices.Equal(c.audiences, previous.audiences)
	return signed && c.remote.CanReuse(previous.remote) && reflect.DeepEqual(c.settings, was)
}

// sameAs reports whether c and other have the same settings and the same dependencies.
func (c *Client) sameAs(other *Client) bool {
	return c.remote == other.remote && (c.keys == other.keys || !c.settings.Signed) && c.leeway == other.leeway &&
		slices.Equal(c.audiences, other.audiences) && reflect.DeepEqual(c.settings, other.settings)
}

func (c *Client) logBreakerState(_ string, _, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		c.log.Warn("introspection suspended", "issuer", c.server, "after_failures", breakerFailures, "for", breakerTimeout.String())
	case gobreaker.StateClosed:
		c.log.Info("introspection resumed", "issuer", c.server)
	case gobreaker.StateHalfOpen: // one request is tried
	}
}

// suspended reports whether the circuit breaker is open or half open.
func (c *Client) suspended() bool { return c.breaker.State() != gobreaker.StateClosed }

// Start registers c with the metrics. It may be called again.
func (c *Client) Start() { c.allMetrics.register(c) }

// Retire removes c from the metrics and clears the caches that c does not share with next, its
// successor after a reload; nil without one. Requests under way still get their responses, within
// the timeout.
func (c *Client) Retire(next *Client) {
	c.allMetrics.unregister(c)
	if next == nil {
		next = &Client{}
	}
	c.cache.clearUnshared(&next.cache)
}

// Close cancels the requests in the background.
func (c *Client) Close() { c.cancel() }

// Ready returns nil if the endpoint is known and the server accepted the gate's credentials in
// the last check.
func (c *Client) Ready() error {
	if _, err := c.endpoint(); err != nil {
		return err
	}
	return c.credentialCheck.ready()
}

// Lookup returns the cached claims of an active token, nil without a fresh entry. It never waits.
// For a token in frequent use it refreshes the entry in the background before the entry expires.
func (c *Client) Lookup(raw string, sum facts.Sum) *access.Unchecked {
	e := c.cache.fresh(sum, c.now())
	if e == nil {
		return nil
	}
	c.metrics.hits.Inc()
	if e.shouldRefresh(c.now()) {
		c.refreshInBackground(raw, sum, e.owner)
	}
	return &e.token
}

// refreshInBackground introspects a token in the background. It does nothing if no permit is
// free: the cached entry is still fresh.
func (c *Client) refreshInBackground(raw string, sum facts.Sum, owner string) {
	if !c.queue.tryAcquire() {
		return
	}
	go func() {
		defer c.queue.release()
		c.metrics.early.Inc()
		_, _ = c.requestAndCache(c.background, raw, sum, func(*response) string { return owner }) // requestAndCache counts errors
	}()
}

// Introspect returns the claims of an active token that came with cert, and caches them for
// owner. Concurrent calls for one token and one certificate share a request, which none of them
// can cancel. Every error wraps an [access.Denial]: Inactive; WrongType for a token that is not
// an access token; MalformedToken for an active token with invalid claims; RateLimited if cert
// came with too many inactive or refused tokens; IssuerUnavailable if the server did not respond
// or its response is not valid.
func (c *Client) Introspect(ctx context.Context, raw string, sum facts.Sum, cert *access.Certificate, owner Owner) (*access.Unchecked, error) {
	now := c.now()
	if err := c.cache.recentDenial(sum, now); err != nil {
		c.metrics.negative.Inc()
		return nil, err
	}
	if err := c.unknownTokens.allow(cert, now); err != nil {
		c.metrics.limited.Inc()
		return nil, err
	}
	r, err := c.coalesce(ctx, raw, sum, cert, owner)
	if err != nil {
		if e := c.cache.stale(sum, c.now()); e != nil && !callerFault(err) {
			c.metrics.stale.Inc()
			return &e.token, nil
		}
		return nil, &access.Denial{Reason: access.IssuerUnavailable, Err: fmt.Errorf("introspection at %s: %w", c.server, err)}
	}
	if r.denial != nil {
		return nil, r.denial
	}
	return &r.token, nil
}

// coalesce shares one request among concurrent calls for one token and one certificate. Calls
// with other certificates make their own requests, because a request may wait for a permit of its
// certificate.
func (c *Client) coalesce(ctx context.Context, raw string, sum facts.Sum, cert *access.Certificate, owner Owner) (*response, error) {
	if c.settings.Cache.MaxAge == 0 { // without a cache, every call gets its own response
		c.metrics.misses.Inc()
		return c.enqueue(ctx, raw, sum, cert, owner)
	}
	made := false
	shared := c.flights.DoChan(string(sum[:])+string(cert.Thumbprint[:]), func() (any, error) {
		// Another request may have filled the cache since Lookup.
		if e := c.cache.fresh(sum, c.now()); e != nil {
			return &response{token: e.token}, nil
		}
		made = true
		c.metrics.misses.Inc()
		return c.enqueue(c.background, raw, sum, cert, owner)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errCanceled, context.Cause(ctx))
	case result := <-shared:
		if !made {
			c.metrics.shared.Inc()
		}
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*response), nil
	}
}

// errCanceled marks a request that was given up.
var errCanceled = errors.New("canceled")

// enqueue waits for a permit and introspects the token. The timeout of the response begins with
// the permit, because the server does not cause the wait. An active token that the gate refuses
// counts like an inactive token: its response is not cached, so the next request with the token
// would introspect it again.
func (c *Client) enqueue(ctx context.Context, raw string, sum facts.Sum, cert *access.Certificate, owner Owner) (*response, error) {
	if c.breaker.State() == gobreaker.StateOpen { // do not wait for a permit in vain
		c.metrics.circuitOpen.Inc()
		return nil, gobreaker.ErrOpenState
	}
	queued, cancel := context.WithTimeout(ctx, c.settings.Timeout)
	defer cancel()
	release, err := c.queue.acquire(queued, cert)
	if err != nil {
		c.metrics.noPermit.Inc()
		return nil, err
	}
	defer release()
	refused := false
	r, err := c.requestAndCache(ctx, raw, sum, func(r *response) string {
		if r.denial != nil {
			refused = true
			return ownerOfInactive(cert)
		}
		partner := owner(&r.token)
		refused = partner == ""
		return partner
	})
	if refused || errors.Is(err, errTokenCaused) || errors.Is(err, errRateLimited) {
		c.unknownTokens.record(cert, c.now())
	}
	return r, err
}

// requestAndCache introspects a token, unless the circuit breaker is open, and caches the
// response for its owner.
func (c *Client) requestAndCache(ctx context.Context, raw string, sum facts.Sum, owner func(*response) string) (*response, error) {
	endpoint, err := c.endpoint()
	if err != nil { // nothing was sent, so the circuit breaker must not count it
		c.metrics.failed.Inc()
		return nil, err
	}
	var requestedAt time.Time
	r, err := c.breaker.Execute(func() (*response, error) {
		withTimeout, cancel := context.WithTimeout(ctx, c.settings.Timeout)
		defer cancel()
		requestedAt = c.now()
		r, err := c.requestWithRetry(withTimeout, endpoint, raw, requestedAt)
		if err != nil && ctx.Err() != nil { // any error of a canceled request
			return nil, fmt.Errorf("%w: %w", errCanceled, context.Cause(ctx))
		}
		return r, err
	})
	if errors.Is(err, errCredentialsRefused) {
		c.credentialCheck.request()
	}
	c.metrics.count(r, err)
	if err == nil {
		c.cache.add(sum, r, requestedAt, owner(r))
	}
	return r, err
}

// Package introspect asks authorization servers what their tokens say, RFC 7662: an
// opaque token goes in, what its server vouches for comes out, remembered for a while.
// It judges nothing: whether the token may pass is for package validate to decide, on
// every request.
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
	// tripAfter is how many failures in a row keep us from asking. They are failures of
	// the server: what one token alone brings about is not among them.
	breakerFailures = 5
	// suspension is how long then nobody asks; after it, one does, and the others follow
	// if that goes well.
	breakerTimeout = 5 * time.Second
)

// Options are what a [Client] needs beside its configuration.
type Options struct {
	Remote  *authserver.Server // must be set
	Keys    *jwks.Source       // must be set where answers are signed
	Memory  *cache.Pool        // must be set
	Log     *slog.Logger       // must be set
	Metrics *Metrics           // must be set
	Now     func() time.Time
	// Previous is the Client that the new one may take the place of; nil for none.
	Previous *Client
}

// A Client asks one authorization server. It is safe for concurrent use.
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
	flights         singleflight.Group // of calls for one token
	cache           responseCache
	credentialCheck credentialCheck
	log             *slog.Logger
	metrics         clientMetrics
	allMetrics      *Metrics // of all servers
	now             func() time.Time

	// life is the context of calls that outlive the request they were made for.
	background context.Context
	cancel     context.CancelFunc
}

// New returns the client of the server that settings describes, whose Introspection is
// set: the previous one where that is no other, and otherwise one that shares what the
// previous one remembers, where it follows that one. It reads the secrets, so that a missing one stops the start, and asks nobody.
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
	if before := options.Previous; before != nil && before.sameAs(c) {
		return before, nil
	}
	var err error
	if c.unknownTokens, err = newUnknownTokenLimiter(); err != nil {
		return nil, err
	}
	c.cache = newResponseCache(settings.Introspection.Cache, options.Memory, options.Metrics)
	if before := options.Previous; before != nil && c.canShareCache(before) {
		c.cache.shareWith(&before.cache)
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

// ours reports whether err says nothing of whether the server can be asked: a token or
// its holder may have brought it about. He must not suspend the server for others by it,
// nor keep a token alive that was revoked.
func callerFault(err error) bool {
	return errors.Is(err, errTokenCaused) || errors.Is(err, errRateLimited) || errors.Is(err, errNoPermit) || errors.Is(err, errCanceled)
}

// follows reports whether what before remembers counts as if c had asked: what differs is
// how long c waits, how many ask at once, and how long answers serve while none comes.
func (c *Client) canShareCache(before *Client) bool {
	was := before.settings
	was.Timeout, was.Concurrency, was.Cache.StaleOnError = c.settings.Timeout, c.settings.Concurrency, c.settings.Cache.StaleOnError
	signed := !c.settings.Signed || c.keys == before.keys && c.leeway == before.leeway && slices.Equal(c.audiences, before.audiences)
	return signed && c.remote.CanReuse(before.remote) && reflect.DeepEqual(c.settings, was)
}

// is reports whether c and other are one, by their settings and by what they go by.
func (c *Client) sameAs(other *Client) bool {
	return c.remote == other.remote && (c.keys == other.keys || !c.settings.Signed) && c.leeway == other.leeway &&
		slices.Equal(c.audiences, other.audiences) && reflect.DeepEqual(c.settings, other.settings)
}

// changed tells that asking was suspended, or is tried again.
func (c *Client) logBreakerState(_ string, _, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		c.log.Warn("introspection suspended", "issuer", c.server, "after_failures", breakerFailures, "for", breakerTimeout.String())
	case gobreaker.StateClosed:
		c.log.Info("introspection resumed", "issuer", c.server)
	case gobreaker.StateHalfOpen: // one question is tried
	}
}

// suspended reports whether the server is not asked, or only one question is tried.
func (c *Client) suspended() bool { return c.breaker.State() != gobreaker.StateClosed }

// Start lets the metrics tell of c. It may be called again.
func (c *Client) Start() { c.allMetrics.register(c) }

// Retire ends that, and forgets what c does not share with heir, which takes its place; nil
// for none. Whoever still asks c gets an answer, within the timeout.
func (c *Client) Retire(heir *Client) {
	c.allMetrics.unregister(c)
	if heir == nil {
		heir = &Client{}
	}
	c.cache.clearUnshared(&heir.cache)
}

// Close ends the calls that are under way in the background.
func (c *Client) Close() { c.cancel() }

// Ready returns nil when it is known where to ask, and the server has not refused the
// gate's credentials when they were last checked.
func (c *Client) Ready() error {
	if _, err := c.endpoint(); err != nil {
		return err
	}
	return c.credentialCheck.ready()
}

// Recall returns what is remembered of an active token, nil when nothing is. It never
// waits. Of a token that is asked for often, it has the server asked again in the
// background before what is remembered ends.
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

// refresh asks about a token in the background, unless that would have to wait for its
// turn: what is remembered still serves.
func (c *Client) refreshInBackground(raw string, sum facts.Sum, owner string) {
	if !c.queue.tryAcquire() {
		return
	}
	go func() {
		defer c.queue.release()
		c.metrics.early.Inc()
		_, _ = c.requestAndCache(c.background, raw, sum, func(*response) string { return owner }) // counted there
	}()
}

// Introspect returns what the server says of a token of which nothing is remembered to
// the contrary, shown by the holder of cert, and remembers the answer in the share of its
// owner. Many who ask with one certificate about one
// token at a time make one call, which no one of them can break off. Errors wrap an
// [access.Denial]: Inactive; WrongType for what is no access token; MalformedToken for one
// of which the server says what cannot be read; RateLimited where the
// holder showed too many that were turned down; IssuerUnavailable where the server did
// not answer, or not so that it could be understood.
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

// shared makes one call for all that ask about the token with cert at this time. Others
// have calls of their own: this one may have to wait for a turn of cert's holder.
func (c *Client) coalesce(ctx context.Context, raw string, sum facts.Sum, cert *access.Certificate, owner Owner) (*response, error) {
	if c.settings.Cache.MaxAge == 0 { // every request has a right to an answer of its own
		c.metrics.misses.Inc()
		return c.enqueue(ctx, raw, sum, cert, owner)
	}
	made := false
	flight := c.flights.DoChan(string(sum[:])+string(cert.Thumbprint[:]), func() (any, error) {
		// Somebody may have asked between the look at the memory and here.
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
	case landed := <-flight:
		if !made {
			c.metrics.shared.Inc()
		}
		if landed.Err != nil {
			return nil, landed.Err
		}
		return landed.Val.(*response), nil
	}
}

// errLeft marks a call that nobody waits for any more.
var errCanceled = errors.New("broken off")

// call asks the server when it is the turn of cert's holder. The time for the answer
// begins then: the server is not to blame for the wait. An answer about a token that is
// refused all the same is counted like an inactive one: it is not remembered, so the next
// request with the token would ask again.
func (c *Client) enqueue(ctx context.Context, raw string, sum facts.Sum, cert *access.Certificate, owner Owner) (*response, error) {
	if c.breaker.State() == gobreaker.StateOpen { // nothing to wait for
		c.metrics.circuitOpen.Inc()
		return nil, gobreaker.ErrOpenState
	}
	waiting, cancel := context.WithTimeout(ctx, c.settings.Timeout)
	defer cancel()
	end, err := c.queue.acquire(waiting, cert)
	if err != nil {
		c.metrics.noPermit.Inc()
		return nil, err
	}
	defer end()
	useless := false
	r, err := c.requestAndCache(ctx, raw, sum, func(r *response) string {
		if r.denial != nil {
			useless = true
			return ownerOfInactive(cert)
		}
		partner := owner(&r.token)
		useless = partner == ""
		return partner
	})
	if useless || errors.Is(err, errTokenCaused) || errors.Is(err, errRateLimited) {
		c.unknownTokens.record(cert, c.now())
	}
	return r, err
}

// send asks the server, unless that is suspended, and remembers the reply in the share of
// its owner.
func (c *Client) requestAndCache(ctx context.Context, raw string, sum facts.Sum, owner func(*response) string) (*response, error) {
	endpoint, err := c.endpoint()
	if err != nil { // nothing was sent that could have failed
		c.metrics.failed.Inc()
		return nil, err
	}
	var asked time.Time
	r, err := c.breaker.Execute(func() (*response, error) {
		answering, cancel := context.WithTimeout(ctx, c.settings.Timeout)
		defer cancel()
		asked = c.now()
		r, err := c.requestWithRetry(answering, endpoint, raw, asked)
		if err != nil && ctx.Err() != nil { // whatever a connection that was given up still brings
			return nil, fmt.Errorf("%w: %w", errCanceled, context.Cause(ctx))
		}
		return r, err
	})
	if errors.Is(err, errCredentialsRefused) {
		c.credentialCheck.request()
	}
	c.metrics.count(r, err)
	if err == nil {
		c.cache.add(sum, r, asked, owner(r))
	}
	return r, err
}

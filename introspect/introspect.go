package introspect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/facts"
)

// A Query asks about one token.
type Query struct {
	Token string
	Sum   facts.Sum // of Token
	// Since, if it is not zero, is the earliest time at which a response to Query may have been requested. Cached
	// responses to earlier requests are not used.
	Since time.Time
}

// A Response says that a token is active. The caller must not change it.
type Response struct {
	Claims      access.Unchecked
	RequestedAt time.Time
}

// answers reports whether r is recent enough for q. r may be nil.
func (r *Response) answers(q Query) bool { return r != nil && !r.RequestedAt.Before(q.Since) }

// Lookup returns the cached response about an active token, or nil if there is no fresh entry. It never
// waits. If a token is in frequent use, Lookup refreshes the entry in the background before the entry
// expires.
func (c *Client) Lookup(q Query) *Response {
	e := c.cache.fresh(q.Sum, c.now())
	if e == nil || !e.answers(q) {
		return nil
	}
	c.metrics.hits.Inc()
	if e.shouldRefresh(c.now()) {
		c.refreshInBackground(q, e.owner)
	}
	return &e.Response
}

// refreshInBackground introspects a token in the background. It does nothing if no permit is free,
// because the cached entry is still fresh.
func (c *Client) refreshInBackground(q Query, owner string) {
	if !c.queue.tryAcquire() {
		return
	}
	go func() {
		defer c.queue.release()
		c.metrics.early.Inc()
		_, _ = c.requestAndCache(c.background, q, func(*response) string { return owner }) // requestAndCache counts errors
	}()
}

// A Call is a request to an authorization server, with the wait for a permit. Began and Ended are times of the
// machine's clock, even if [Options.Now] is another clock.
type Call struct {
	Server       string // configured name
	Began, Ended time.Time
	Failed       bool // there was no valid response
}

// Introspect returns the response about an active token that came with cert, and caches it for
// owner. Concurrent calls for one token and one certificate share a request, which no caller can
// cancel. Every error wraps an [access.Denial]: Inactive; WrongType for a token that is not an access
// token; MalformedToken for an active token with invalid claims; RateLimited if cert came with too
// many inactive or refused tokens; IssuerUnavailable if the server did not respond or its response is
// not valid. call, which may be nil, gets the times of the request, or of the wait for a shared request. It
// stays zero if no request was made.
func (c *Client) Introspect(ctx context.Context, q Query, cert *access.Certificate, owner Owner, call *Call) (*Response, error) {
	now := c.now()
	if err := c.cache.recentDenial(q.Sum, now); err != nil {
		c.metrics.negative.Inc()
		return nil, err
	}
	if err := c.unknownTokens.allow(cert, now); err != nil {
		c.metrics.limited.Inc()
		return nil, err
	}
	began := time.Now()
	r, err := c.coalesce(ctx, q, cert, owner)
	if call != nil && !errors.Is(err, gobreaker.ErrOpenState) && !errors.Is(err, authserver.ErrNoMetadata) {
		*call = Call{Server: c.server, Began: began, Ended: time.Now(), Failed: err != nil}
	}
	if err != nil {
		if e := c.cache.stale(q.Sum, c.now()); e != nil && e.answers(q) && !callerFault(err) {
			c.metrics.stale.Inc()
			return &e.Response, nil
		}
		return nil, &access.Denial{Reason: access.IssuerUnavailable, Err: fmt.Errorf("introspection at %s: %w", c.server, err)}
	}
	if r.denial != nil {
		return nil, r.denial
	}
	return &r.Response, nil
}

// coalesce shares one request among concurrent calls for one token and one certificate. A call with
// another certificate makes its own request, because each request waits for a permit of its
// certificate.
func (c *Client) coalesce(ctx context.Context, q Query, cert *access.Certificate, owner Owner) (*response, error) {
	if c.settings.Cache.MaxAge == 0 { // without a cache, every call gets its own response
		c.metrics.misses.Inc()
		return c.enqueue(ctx, q, cert, owner)
	}
	made := false
	shared := c.flights.DoChan(string(q.Sum[:])+string(cert.Thumbprint[:]), func() (any, error) {
		// Another request may have filled the cache since Lookup.
		if e := c.cache.fresh(q.Sum, c.now()); e != nil && e.answers(q) {
			return &response{Response: e.Response}, nil
		}
		made = true
		c.metrics.misses.Inc()
		return c.enqueue(c.background, q, cert, owner)
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
		r := result.Val.(*response)
		if r.denial == nil && !r.answers(q) { // the shared request began before q.Since
			return c.enqueue(ctx, q, cert, owner)
		}
		return r, nil
	}
}

// errCanceled marks a request that was canceled before its response.
var errCanceled = errors.New("canceled")

// enqueue waits for a permit and introspects the token. The timeout of the response begins when the
// permit is acquired, because the server does not cause the wait. An active token that the gate
// refuses is limited like an inactive token: its response is not cached, so the next request with the
// token would introspect the token again.
func (c *Client) enqueue(ctx context.Context, q Query, cert *access.Certificate, owner Owner) (*response, error) {
	if c.breaker.State() == gobreaker.StateOpen { // the open circuit breaker would refuse the request anyway
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
	r, err := c.requestAndCache(ctx, q, func(r *response) string {
		if r.denial != nil {
			refused = true
			return ownerOfInactive(cert)
		}
		partner := owner(&r.Claims)
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
func (c *Client) requestAndCache(ctx context.Context, q Query, owner func(*response) string) (*response, error) {
	endpoint, err := c.endpoint()
	if err != nil { // no request was sent, so the circuit breaker must not count the error
		c.metrics.failed.Inc()
		return nil, err
	}
	r, err := c.breaker.Execute(func() (*response, error) {
		withTimeout, cancel := context.WithTimeout(ctx, c.settings.Timeout)
		defer cancel()
		requestedAt := c.now()
		r, err := c.requestWithRetry(withTimeout, endpoint, q.Token, requestedAt)
		if err != nil && ctx.Err() != nil { // the context's error explains every error of a canceled request
			return nil, fmt.Errorf("%w: %w", errCanceled, context.Cause(ctx))
		}
		if err == nil {
			r.RequestedAt = requestedAt
		}
		return r, err
	})
	if errors.Is(err, errCredentialsRefused) {
		c.credentialCheck.request()
	}
	c.metrics.count(r, err)
	if err == nil {
		c.cache.add(q.Sum, r, owner(r))
	}
	return r, err
}

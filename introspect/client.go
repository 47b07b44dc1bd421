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
	"github.com/tallygate/tallygate/discovery"
	"github.com/tallygate/tallygate/facts"
	"github.com/tallygate/tallygate/keyset"
)

const (
	// tripAfter is how many failures in a row keep us from asking. They are failures of
	// the server: what one token alone brings about is not among them.
	tripAfter = 5
	// suspension is how long then nobody asks; after it, one does, and the others follow
	// if that goes well.
	suspension = 5 * time.Second
)

// Options are what a [Client] needs beside its configuration.
type Options struct {
	Remote  *discovery.Server // must be set
	Keys    *keyset.Source    // must be set where answers are signed
	Log     *slog.Logger      // must be set
	Metrics *Metrics          // must be set
	Now     func() time.Time
}

// A Client asks one authorization server. It is safe for concurrent use.
type Client struct {
	server    string // configured name
	issuer    string
	audiences []string
	leeway    time.Duration
	settings  config.Introspection
	remote    *discovery.Server
	keys      *keyset.Source
	secrets   credentials
	turns     *turns
	breaker   *gobreaker.CircuitBreaker[*reply]
	flights   singleflight.Group // of calls for one token
	memory    memory
	log       *slog.Logger
	metrics   clientMetrics
	all       *Metrics // of all servers
	now       func() time.Time

	// life is the context of calls that outlive the request they were made for.
	life context.Context
	end  context.CancelFunc
}

// New returns the client of the server that settings describes, whose Introspection is
// set. It reads the secrets, so that a missing one stops the start, and asks nobody.
func New(settings config.AuthorizationServer, options Options) (*Client, error) {
	c := &Client{
		server: string(settings.Name), issuer: string(settings.Issuer), audiences: settings.Audiences, leeway: settings.Leeway,
		settings: *settings.Introspection, remote: options.Remote, keys: options.Keys,
		secrets: credentials{settings.Introspection.Authentication, string(settings.Introspection.ClientID), string(settings.Issuer)},
		turns:   newTurns(settings.Introspection.Concurrency),
		log:     options.Log, now: options.Now,
		metrics: options.Metrics.of(string(settings.Name)), all: options.Metrics,
	}
	c.memory = newMemory(settings.Introspection.Cache, options.Metrics)
	options.Metrics.include(&c.memory)
	c.breaker = gobreaker.NewCircuitBreaker[*reply](gobreaker.Settings{
		Name:          c.server,
		Timeout:       suspension,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= tripAfter },
		IsExcluded:    ours,
		OnStateChange: c.changed,
	})
	c.life, c.end = context.WithCancel(context.Background())
	return c, c.secrets.check()
}

// ours reports whether err says nothing of the server: the token brought it about, the
// client left, or it was not our turn.
func ours(err error) bool {
	return errors.Is(err, errThisToken) || errors.Is(err, errTurn) || errors.Is(err, context.Canceled)
}

// Serves reports whether c is what [New] would return for settings, remote and keys, so
// that a gate which is configured anew may keep it, and with it what it remembers.
func (c *Client) Serves(settings config.AuthorizationServer, remote *discovery.Server, keys *keyset.Source) bool {
	return c.remote == remote && (c.keys == keys || !c.settings.Signed) && c.leeway == settings.Leeway &&
		slices.Equal(c.audiences, settings.Audiences) && reflect.DeepEqual(&c.settings, settings.Introspection)
}

// changed tells that asking was suspended, or is tried again.
func (c *Client) changed(_ string, _, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		c.metrics.suspended.Set(1)
		c.log.Warn("introspection suspended", "issuer", c.server, "after_failures", tripAfter, "for", suspension.String())
	case gobreaker.StateClosed:
		c.metrics.suspended.Set(0)
		c.log.Info("introspection resumed", "issuer", c.server)
	case gobreaker.StateHalfOpen: // one question is tried
	}
}

// Close ends the calls that are under way in the background.
func (c *Client) Close() {
	c.end()
	c.all.exclude(&c.memory)
}

// Ready returns nil when it is known where to ask.
func (c *Client) Ready() error {
	_, err := c.endpoint()
	return err
}

// Recall returns what is remembered of an active token, nil when nothing is. It never
// waits. Of a token that is asked for often, it has the server asked again in the
// background before what is remembered ends.
func (c *Client) Recall(raw string, sum facts.Sum) *access.Unchecked {
	e := c.memory.fresh(sum, c.now())
	if e == nil {
		return nil
	}
	c.metrics.hits.Inc()
	if e.due(c.now()) {
		c.refresh(raw, sum)
	}
	return &e.says
}

// refresh asks about a token in the background, unless that would have to wait for its
// turn: what is remembered still serves.
func (c *Client) refresh(raw string, sum facts.Sum) {
	if !c.turns.try() {
		return
	}
	go func() {
		defer c.turns.end()
		ctx, cancel := context.WithTimeout(c.life, c.settings.Timeout)
		defer cancel()
		c.metrics.early.Inc()
		asked := c.now()
		r, err := c.breaker.Execute(func() (*reply, error) { return c.ask(ctx, raw) })
		c.metrics.count(r, err)
		if err == nil {
			c.memory.add(sum, r, asked)
		}
	}()
}

// Introspect returns what the server says of a token of which nothing is remembered to
// the contrary, shown by the holder of a certificate. Many who ask about one token at a
// time make one call, which no one of them can break off. Errors wrap an
// [access.Denial]: Inactive; WrongType for what is no access token; IssuerUnavailable
// where the server did not answer, or not so that it could be understood.
func (c *Client) Introspect(ctx context.Context, raw string, sum facts.Sum, holder access.Thumbprint) (*access.Unchecked, error) {
	if err := c.memory.refusal(sum, c.now()); err != nil {
		c.metrics.negative.Inc()
		return nil, err
	}
	r, err := c.shared(ctx, raw, sum, holder)
	if err != nil {
		if e := c.memory.stale(sum, c.now()); e != nil && !errors.Is(err, errThisToken) {
			c.metrics.stale.Inc()
			return &e.says, nil
		}
		return nil, &access.Denial{Reason: access.IssuerUnavailable, Err: fmt.Errorf("introspection at %s: %w", c.server, err)}
	}
	if r.refusal != nil {
		return nil, r.refusal
	}
	return &r.says, nil
}

// shared makes one call for all that ask about the token at this time.
func (c *Client) shared(ctx context.Context, raw string, sum facts.Sum, holder access.Thumbprint) (*reply, error) {
	if c.settings.Cache.MaxAge == 0 { // every request has a right to an answer of its own
		c.metrics.misses.Inc()
		return c.call(ctx, raw, sum, holder)
	}
	made := false
	flight := c.flights.DoChan(string(sum[:]), func() (any, error) {
		// Somebody may have asked between the look at the memory and here.
		if e := c.memory.fresh(sum, c.now()); e != nil {
			return &reply{says: e.says}, nil
		}
		made = true
		c.metrics.misses.Inc()
		return c.call(c.life, raw, sum, holder)
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case landed := <-flight:
		if !made {
			c.metrics.shared.Inc()
		}
		if landed.Err != nil {
			return nil, landed.Err
		}
		return landed.Val.(*reply), nil
	}
}

// call asks the server when it is the holder's turn, and remembers the reply.
func (c *Client) call(ctx context.Context, raw string, sum facts.Sum, holder access.Thumbprint) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.settings.Timeout)
	defer cancel()
	var asked time.Time
	r, err := c.breaker.Execute(func() (*reply, error) {
		if err := c.turns.begin(ctx, holder); err != nil {
			return nil, err
		}
		defer c.turns.release(holder)
		asked = c.now()
		r, err := c.ask(ctx, raw)
		if err != nil && errors.Is(ctx.Err(), context.Canceled) {
			// Whatever a connection that was given up still brings.
			return nil, ctx.Err()
		}
		return r, err
	})
	c.metrics.count(r, err)
	if err == nil {
		c.memory.add(sum, r, asked)
	}
	return r, err
}

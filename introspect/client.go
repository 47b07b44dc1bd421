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
	tripAfter = 5
	// suspension is how long then nobody asks; after it, one does, and the others follow
	// if that goes well.
	suspension = 5 * time.Second
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
	server    string // configured name
	issuer    string
	audiences []string
	leeway    time.Duration
	settings  config.Introspection
	remote    *authserver.Server
	keys      *jwks.Source
	secrets   credentials
	turns     *turns
	strangers strangers
	breaker   *gobreaker.CircuitBreaker[*reply]
	flights   singleflight.Group // of calls for one token
	memory    memory
	check     credentialCheck
	log       *slog.Logger
	metrics   clientMetrics
	all       *Metrics // of all servers
	now       func() time.Time

	// life is the context of calls that outlive the request they were made for.
	life context.Context
	end  context.CancelFunc
}

// New returns the client of the server that settings describes, whose Introspection is
// set: the previous one where that is no other, and otherwise one that shares what the
// previous one remembers, where it follows that one. It reads the secrets, so that a missing one stops the start, and asks nobody.
func New(settings config.AuthorizationServer, options Options) (*Client, error) {
	c := &Client{
		server: string(settings.Name), issuer: string(settings.Issuer), audiences: settings.Audiences, leeway: settings.Leeway,
		settings: *settings.Introspection, remote: options.Remote, keys: options.Keys,
		secrets: credentials{settings.Introspection.Authentication, string(settings.Introspection.ClientID), string(settings.Issuer)},
		turns:   newTurns(settings.Introspection.Concurrency),
		check:   credentialCheck{pause: recheckAfter, doubts: make(chan struct{}, 1)},
		log:     options.Log, now: options.Now,
		metrics: options.Metrics.of(string(settings.Name)), all: options.Metrics,
	}
	if err := c.secrets.check(); err != nil {
		return nil, err
	}
	if before := options.Previous; before != nil && before.is(c) {
		return before, nil
	}
	var err error
	if c.strangers, err = newStrangers(); err != nil {
		return nil, err
	}
	c.memory = newMemory(settings.Introspection.Cache, options.Memory, options.Metrics)
	if before := options.Previous; before != nil && c.follows(before) {
		c.memory.share(&before.memory)
	}
	c.breaker = gobreaker.NewCircuitBreaker[*reply](gobreaker.Settings{
		Name:          c.server,
		Timeout:       suspension,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= tripAfter },
		IsExcluded:    ours,
		OnStateChange: c.changed,
	})
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// ours reports whether err says nothing of whether the server can be asked: a token or
// its holder may have brought it about. He must not suspend the server for others by it,
// nor keep a token alive that was revoked.
func ours(err error) bool {
	return errors.Is(err, errThisToken) || errors.Is(err, errTooMany) || errors.Is(err, errTurn) || errors.Is(err, errLeft)
}

// follows reports whether what before remembers counts as if c had asked: what differs is
// how long c waits, how many ask at once, and how long answers serve while none comes.
func (c *Client) follows(before *Client) bool {
	was := before.settings
	was.Timeout, was.Concurrency, was.Cache.StaleOnError = c.settings.Timeout, c.settings.Concurrency, c.settings.Cache.StaleOnError
	signed := !c.settings.Signed || c.keys == before.keys && c.leeway == before.leeway && slices.Equal(c.audiences, before.audiences)
	return signed && c.remote.Follows(before.remote) && reflect.DeepEqual(c.settings, was)
}

// is reports whether c and other are one, by their settings and by what they go by.
func (c *Client) is(other *Client) bool {
	return c.remote == other.remote && (c.keys == other.keys || !c.settings.Signed) && c.leeway == other.leeway &&
		slices.Equal(c.audiences, other.audiences) && reflect.DeepEqual(c.settings, other.settings)
}

// changed tells that asking was suspended, or is tried again.
func (c *Client) changed(_ string, _, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		c.log.Warn("introspection suspended", "issuer", c.server, "after_failures", tripAfter, "for", suspension.String())
	case gobreaker.StateClosed:
		c.log.Info("introspection resumed", "issuer", c.server)
	case gobreaker.StateHalfOpen: // one question is tried
	}
}

// suspended reports whether the server is not asked, or only one question is tried.
func (c *Client) suspended() bool { return c.breaker.State() != gobreaker.StateClosed }

// Start lets the metrics tell of c. It may be called again.
func (c *Client) Start() { c.all.tellOf(c) }

// Retire ends that, and forgets what c does not share with heir, which takes its place; nil
// for none. Whoever still asks c gets an answer, within the timeout.
func (c *Client) Retire(heir *Client) {
	c.all.tellNoMoreOf(c)
	if heir == nil {
		heir = &Client{}
	}
	c.memory.clear(&heir.memory)
}

// Close ends the calls that are under way in the background.
func (c *Client) Close() { c.end() }

// Ready returns nil when it is known where to ask, and the server has not refused the
// gate's credentials when they were last checked.
func (c *Client) Ready() error {
	if _, err := c.endpoint(); err != nil {
		return err
	}
	return c.check.ready()
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
		c.refresh(raw, sum, e.owner)
	}
	return &e.says
}

// refresh asks about a token in the background, unless that would have to wait for its
// turn: what is remembered still serves.
func (c *Client) refresh(raw string, sum facts.Sum, owner string) {
	if !c.turns.try() {
		return
	}
	go func() {
		defer c.turns.end()
		c.metrics.early.Inc()
		_, _ = c.send(c.life, raw, sum, func(*reply) string { return owner }) // counted there
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
	if err := c.memory.refusal(sum, now); err != nil {
		c.metrics.negative.Inc()
		return nil, err
	}
	if err := c.strangers.admit(cert, now); err != nil {
		c.metrics.limited.Inc()
		return nil, err
	}
	r, err := c.shared(ctx, raw, sum, cert, owner)
	if err != nil {
		if e := c.memory.stale(sum, c.now()); e != nil && !ours(err) {
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

// shared makes one call for all that ask about the token with cert at this time. Others
// have calls of their own: this one may have to wait for a turn of cert's holder.
func (c *Client) shared(ctx context.Context, raw string, sum facts.Sum, cert *access.Certificate, owner Owner) (*reply, error) {
	if c.settings.Cache.MaxAge == 0 { // every request has a right to an answer of its own
		c.metrics.misses.Inc()
		return c.call(ctx, raw, sum, cert, owner)
	}
	made := false
	flight := c.flights.DoChan(string(sum[:])+string(cert.Thumbprint[:]), func() (any, error) {
		// Somebody may have asked between the look at the memory and here.
		if e := c.memory.fresh(sum, c.now()); e != nil {
			return &reply{says: e.says}, nil
		}
		made = true
		c.metrics.misses.Inc()
		return c.call(c.life, raw, sum, cert, owner)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errLeft, context.Cause(ctx))
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

// errLeft marks a call that nobody waits for any more.
var errLeft = errors.New("broken off")

// call asks the server when it is the turn of cert's holder. The time for the answer
// begins then: the server is not to blame for the wait. An answer about a token that is
// refused all the same is counted like an inactive one: it is not remembered, so the next
// request with the token would ask again.
func (c *Client) call(ctx context.Context, raw string, sum facts.Sum, cert *access.Certificate, owner Owner) (*reply, error) {
	if c.breaker.State() == gobreaker.StateOpen { // nothing to wait for
		c.metrics.refused.Inc()
		return nil, gobreaker.ErrOpenState
	}
	waiting, cancel := context.WithTimeout(ctx, c.settings.Timeout)
	defer cancel()
	end, err := c.turns.begin(waiting, cert)
	if err != nil {
		c.metrics.noTurn.Inc()
		return nil, err
	}
	defer end()
	useless := false
	r, err := c.send(ctx, raw, sum, func(r *reply) string {
		if r.refusal != nil {
			useless = true
			return holderOf(cert)
		}
		partner := owner(&r.says)
		useless = partner == ""
		return partner
	})
	if useless || errors.Is(err, errThisToken) || errors.Is(err, errTooMany) {
		c.strangers.count(cert, c.now())
	}
	return r, err
}

// send asks the server, unless that is suspended, and remembers the reply in the share of
// its owner.
func (c *Client) send(ctx context.Context, raw string, sum facts.Sum, owner func(*reply) string) (*reply, error) {
	endpoint, err := c.endpoint()
	if err != nil { // nothing was sent that could have failed
		c.metrics.failed.Inc()
		return nil, err
	}
	var asked time.Time
	r, err := c.breaker.Execute(func() (*reply, error) {
		answering, cancel := context.WithTimeout(ctx, c.settings.Timeout)
		defer cancel()
		asked = c.now()
		r, err := c.ask(answering, endpoint, raw, asked)
		if err != nil && ctx.Err() != nil { // whatever a connection that was given up still brings
			return nil, fmt.Errorf("%w: %w", errLeft, context.Cause(ctx))
		}
		return r, err
	})
	if errors.Is(err, errRefused) {
		c.check.doubt()
	}
	c.metrics.count(r, err)
	if err == nil {
		c.memory.add(sum, r, asked, owner(r))
	}
	return r, err
}

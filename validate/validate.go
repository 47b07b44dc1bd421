// Package validate decides what a request's access token is worth. In go the raw
// token of [Bearer] and the client certificate of the connection, out come
// [access.Claims] or an [access.Denial]. It finds out what the token says, by the keys of
// the authorization server that it names or by asking the servers that may know it,
// judges that, and last the binding of token and certificate, RFC 8705 section 3. What a
// token says is remembered, whether it may pass is judged anew on every request.
package validate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/introspect"
)

// Options are what a [Validator] needs beside its authorization servers.
type Options struct {
	// Local gives what our own issuer knows, by its identifier; nil when there is none.
	Local map[config.Identifier]LocalIssuer
	// Revoked reports whether a token has been revoked. It is asked on every
	// request that gets so far, by many goroutines at once. nil: none is.
	Revoked func(access.Unchecked) bool
	// Partner returns the partner as whose a token of that server for that client may come
	// with cert, or "" for none. What a granted token says is remembered in the partner's share of Memory, and
	// not at all where there is none. nil: all tokens are those of one partner.
	Partner func(server, clientID string, cert *access.Certificate) string
	Memory  *cache.Pool  // nil: a new one of [cache.DefaultBytes]
	Log     *slog.Logger // nil: nothing is logged
	Metrics *Metrics     // nil: some that nobody reads
	// Previous is the Validator that the new one takes the place of; nil for none. What
	// has not changed is shared with it: keys, what is remembered, connections.
	Previous *Validator
	Now      func() time.Time // nil: time.Now
}

// Local is our own issuer, which is asked in this process.
type LocalIssuer struct {
	KeySet jwks.LocalKeySet
	// Introspect returns what an opaque token of ours says, and whether it is active. It
	// is called by many goroutines at once. nil: there are none.
	Introspect func(raw string) (says access.Unchecked, active bool, err error)
}

// A Validator judges access tokens. It is safe for concurrent use.
type Validator struct {
	servers  []*server
	byIssuer map[string]*server
	opaque   []*server // those that may know an opaque token, in configured order
	revoked  func(access.Unchecked) bool
	partner  func(server, clientID string, cert *access.Certificate) string
	memory   *cache.Pool
	now      func() time.Time
	metrics  *Metrics
	loops    *refreshLoops // the previous one's too
}

// New returns a Validator for tokens of servers. It reads key set files, anchors and
// secrets, so that a broken one stops the start; what is at a URL is first read by
// [Validator.Start], and until then its server's tokens are refused as
// [access.IssuerUnavailable].
func New(servers []config.AuthorizationServer, options Options) (*Validator, error) {
	v := &Validator{
		byIssuer: make(map[string]*server, len(servers)),
		revoked:  options.Revoked,
		partner:  options.Partner,
		memory:   options.Memory,
		now:      options.Now,
		loops:    &refreshLoops{running: make(map[refresher]*refreshLoop)},
	}
	if options.Previous != nil {
		v.loops = options.Previous.loops
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.partner == nil {
		v.partner = func(string, string, *access.Certificate) string { return "everyone" }
	}
	if v.memory == nil {
		v.memory = cache.NewPool(cache.DefaultBytes)
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if v.metrics = options.Metrics; v.metrics == nil {
		v.metrics = makeMetrics()
	}
	var faults []error
	for _, settings := range servers {
		s, err := v.newServer(settings, options)
		v.servers = append(v.servers, s)
		if err == nil && v.byIssuer[s.issuer] != nil {
			err = fmt.Errorf("issuer %q is already taken", s.issuer)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("preparing authorization server %q: %w", settings.Name, err))
			continue
		}
		v.byIssuer[s.issuer] = s
		if s.introspector != nil && settings.TakesOpaque() {
			v.opaque = append(v.opaque, s)
		}
	}
	if err := errors.Join(faults...); err != nil {
		v.Close(options.Previous)
		return nil, err
	}
	return v, nil
}

// Validate returns the claims of raw, a token as [Bearer] returns it, when it was
// presented with cert. It may wait for an authorization server, within that server's
// bounds or until ctx ends. Every error wraps an [access.Denial], whose ClientID is set
// once a server has vouched for the token.
func (v *Validator) Validate(ctx context.Context, raw string, cert *access.Certificate) (access.Claims, error) {
	now := v.now()
	q := validation{ctx: ctx, raw: raw, cert: cert, now: now}
	claims, err := v.validate(&q)
	if err != nil && q.server != nil {
		err = withServer(q.server, err)
	}
	v.metrics.observe(q.kind, q.source, err, v.now().Sub(now))
	return claims, err
}

// A question is one token to be judged, and how the answer was found.
type validation struct {
	ctx    context.Context
	raw    string
	sum    facts.Sum
	cert   *access.Certificate
	now    time.Time
	server *server // whose token it is; nil until that is known
	kind   tokenKind
	source claimsSource
}

// of returns err with the name of the server whose token it is about.
func withServer(s *server, err error) error {
	var d *access.Denial
	if !errors.As(err, &d) {
		return err
	}
	named := *d // some are shared
	named.Server = s.name
	return &named
}

func (v *Validator) validate(q *validation) (access.Claims, error) {
	if q.cert == nil {
		return access.Claims{}, access.Denyf(access.NoCertificate, "no client certificate came with the token")
	}
	if len(q.raw) > maxToken {
		return access.Claims{}, errTooLong()
	}
	q.sum = facts.SumOf(q.raw)
	if s, says := v.lookup(q); says != nil {
		return v.checkToken(s, says, q)
	}
	if len(v.opaque) > 0 && !jwks.IsJWS(q.raw) {
		return v.introspect(q, v.opaque)
	}
	v.metrics.misses.Inc()
	t, err := parse(q.raw)
	if err != nil {
		return access.Claims{}, err
	}
	s, ok := v.byIssuer[t.issuer]
	switch {
	case !ok:
		return access.Claims{}, &access.Denial{Reason: access.UnknownIssuer, Err: &access.Mismatch{
			Name: "iss", Want: "a configured authorization server", Got: quoted(t.issuer),
		}}
	case !s.acceptsJWT: // its JWTs are opaque to us
		return v.introspect(q, []*server{s})
	}
	q.server = s
	f, err := s.verify(q, t)
	if err != nil {
		return access.Claims{}, err
	}
	claims, err := v.checkToken(s, &f.claims, q)
	if err == nil {
		v.remember(s, f, v.partner(s.name, claims.ClientID, q.cert), q)
	}
	return claims, err
}

// remember keeps what a granted token of that partner says for the next request with it;
// "" is no partner. What was refused is not kept: nobody can use it, and a client can have as
// many such tokens as it likes.
func (v *Validator) remember(s *server, f *cachedToken, partner string, q *validation) {
	if partner != "" {
		s.cache.Add(q.sum, f, partner, cachedTokenBytes+facts.Bytes(&f.claims), f.claims.Expires.Add(s.leeway))
	}
}

// recall returns what is remembered of a token, and the server that vouched for it. A
// JWT's iss names one server only, so at most one cache has it; of an opaque token, the
// first server that said it is active counts. It returns nil when nothing is remembered,
// or when the key that vouched has left the key set: the token must then be verified
// again.
func (v *Validator) lookup(q *validation) (*server, *access.Unchecked) {
	for _, s := range v.servers {
		f, ok := s.cache.Get(q.sum)
		if !ok {
			continue
		}
		set, err := s.keys.Usable(q.now)
		if err != nil {
			continue // what was verified counts again when there are keys again
		}
		if !set.Has(f.key) {
			s.cache.Remove(q.sum)
			continue
		}
		if s.expired(&f.claims, q.now) {
			s.cache.Remove(q.sum)
		}
		v.metrics.hits.Inc()
		q.source = cached
		return s, &f.claims
	}
	shaped := len(v.opaque) > 0 && jwks.IsJWS(q.raw)
	for _, s := range v.opaque {
		if shaped && s.acceptsJWT {
			continue // what such a server said of a JWT only confirms it
		}
		if says := s.introspector.Lookup(q.raw, q.sum); says != nil {
			q.kind, q.source = opaque, cached
			return s, says
		}
	}
	return nil, nil
}

// resolve asks servers, in their order, what a token says. One that does not answer does
// not keep the others from being asked; but when none of them knows the token, it may
// have been that one's, and there is no telling.
func (v *Validator) introspect(q *validation, servers []*server) (access.Claims, error) {
	q.kind, q.source = opaque, remote
	if len(servers) == 1 {
		q.server = servers[0]
	}
	var refusal, unanswered error
	for _, s := range servers {
		says, err := s.introspector.Introspect(q.ctx, q.raw, q.sum, q.cert, v.ownerFor(s, q.cert, q.now))
		switch reason := access.ReasonOf(err); {
		case err == nil:
			return v.checkToken(s, says, q)
		case reason == access.MalformedToken: // it is this server's, who says that it is active
			q.server = s
			return access.Claims{}, err
		case reason == access.Inactive || reason == access.WrongType:
			if refusal == nil || reason == access.WrongType {
				refusal = err
			}
		case unanswered == nil:
			unanswered = err
		}
	}
	if unanswered != nil {
		return access.Claims{}, unanswered
	}
	return access.Claims{}, refusal
}

// ownerOf returns a function that tells in which partner's share an answer of s, about a
// token that came with cert at now, is remembered: "" where the token would be refused.
func (v *Validator) ownerFor(s *server, cert *access.Certificate, now time.Time) introspect.Owner {
	return func(answer *access.Unchecked) string {
		if reason, _ := v.checkClaimsAndBinding(s, answer, cert, now); reason != access.Granted {
			return ""
		}
		return v.partner(s.name, answer.ClientID, cert)
	}
}

// cached returns how many JWTs all servers' caches hold.
func (v *Validator) cached() float64 {
	n := 0
	for _, s := range v.servers {
		n += s.cache.Len()
	}
	return float64(n)
}

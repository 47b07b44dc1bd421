// Package validate checks access tokens. [Validator.Validate] takes the [Credentials] of a request and
// the client certificate of the connection, and returns [access.Claims] or an [access.Denial].
// The claims come from a JWT, verified with the keys of its authorization server, or from
// introspection. The binding of token and certificate (RFC 8705 section 3) is the last check.
// Claims are cached; checks run on every request.
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
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/introspect"
	"github.com/tallygate/tallygate/validate/dpop"
)

// Options are what a [Validator] needs in addition to its authorization servers.
type Options struct {
	// Local has our own issuer, by its issuer identifier. It is nil if there is no such issuer.
	Local map[config.Identifier]LocalIssuer
	// Revoked returns whether a token, which it must not change, is revoked. The error says why it is
	// revoked, or why this is not known; it is for the log. Revoked is called on every request and must be safe for concurrent use.
	// If Revoked is nil, no token is revoked.
	Revoked func(*access.Unchecked) (RevocationStatus, error)
	// IntrospectedWithin is the greatest age of a cached introspection response about a token with the
	// status [Introspect].
	IntrospectedWithin time.Duration
	// Renewed reports whether a token of the server and client, which is bound to the certificate with the
	// thumbprint bound, came with a renewed certificate of the same application. Such a token is refused as
	// [access.BoundToPrevious]. If Renewed is nil, or returns false, it is refused as [access.BoundToOther].
	Renewed func(server, clientID string, bound access.Thumbprint, cert *access.Certificate) bool
	// Partner returns the partner of a token of the server and client that came with cert, or "" if
	// no partner has the client. The claims of a granted token are cached in the partner's share of
	// Memory; if Partner returns "", they are not cached. If Partner is nil, all tokens belong to one
	// partner.
	Partner func(server, clientID string, cert *access.Certificate) string
	Memory  *cache.Pool  // nil means a new pool of [cache.DefaultBytes]
	Log     *slog.Logger // if nil, nothing is logged
	Metrics *Metrics     // nil means metrics that are not registered
	// Lease, which is required, shares unchanged keys, caches and connections with the previous
	// Validator. The release of the Lease ends the background work. Requests under way still get
	// their answers.
	Lease *reuse.Lease
	Now   func() time.Time // nil means time.Now
	// At, if it is not zero, is the time at which tokens and proofs are judged. Requests to authorization
	// servers, and the age of their documents, go by Now in any case.
	At time.Time
	// DPoP has the settings of proofs. It is nil if no API accepts tokens that are bound to a key.
	DPoP *config.DPoP
}

// A LocalIssuer is our own issuer, in this process.
type LocalIssuer struct {
	KeySet jwks.LocalKeySet
	// Introspect returns the claims of an opaque token and whether the token is active. It must be
	// safe for concurrent use. It is nil if the issuer has no opaque tokens.
	Introspect func(raw string) (claims access.Unchecked, active bool, err error)
}

// A Validator checks access tokens. It is safe for concurrent use.
type Validator struct {
	servers  []*server
	byIssuer map[string]*server
	opaque   []*server // servers with opaque tokens, in configured order
	revoked  func(*access.Unchecked) (RevocationStatus, error)
	within   time.Duration // see Options.IntrospectedWithin
	renewed  func(server, clientID string, bound access.Thumbprint, cert *access.Certificate) bool
	partner  func(server, clientID string, cert *access.Certificate) string
	memory   *cache.Pool
	now      func() time.Time
	at       time.Time // see Options.At
	metrics  *Metrics
	dpop     *dpop.Checker // nil if tokens that are bound to a key are refused
	offered  [len(schemes)]bool
}

// New returns a Validator for tokens of servers. It reads key set files, anchors and secrets, and
// returns an error if a file is broken. [Validator.Start] fetches documents from URLs. A server's
// tokens are refused with [access.IssuerUnavailable] until the server's documents have arrived.
func New(servers []config.AuthorizationServer, options Options) (*Validator, error) {
	v := &Validator{
		byIssuer: make(map[string]*server, len(servers)),
		revoked:  options.Revoked,
		within:   options.IntrospectedWithin,
		renewed:  options.Renewed,
		partner:  options.Partner,
		memory:   options.Memory,
		now:      options.Now,
		at:       options.At,
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
		v.metrics = NewMetrics(nil)
	}
	options.Now, options.Metrics = v.now, v.metrics
	v.dpop, v.offered[DPoP] = newChecker(options, v.now), options.DPoP != nil
	var errs []error
	for _, settings := range servers {
		s, err := v.newServer(settings, options)
		if err == nil && v.byIssuer[s.issuer] != nil {
			err = fmt.Errorf("issuer %q is configured twice", s.issuer)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("preparing authorization server %q: %w", settings.Name, err))
			continue
		}
		v.servers, v.byIssuer[s.issuer] = append(v.servers, s), s
		v.offered[MTLSPoP] = v.offered[MTLSPoP] || s.mtlsPoP
		if s.introspector != nil && settings.TakesOpaque() {
			v.opaque = append(v.opaque, s)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return v, nil
}

// Validate returns the claims of the token in c, which came with cert. It may wait for an
// authorization server, within the server's timeouts or until ctx ends. Every error wraps an
// [access.Denial], whose ClientID is set once the token's origin is verified.
func (v *Validator) Validate(ctx context.Context, c Credentials, cert *access.Certificate) (access.Claims, error) {
	val := v.newValidation(ctx, c, cert)
	claims, err := v.validate(&val)
	if err != nil && val.server != nil {
		err = withServer(val.server, err)
	}
	v.metrics.observe(val.kind, val.source, err, v.now().Sub(val.started))
	return claims, err
}

// A validation is one check of a token, with the data for metrics.
type validation struct {
	presentation
	ctx     context.Context
	started time.Time
	server  *server // server of the token; nil until it is known
	kind    tokenKind
	source  claimsSource
	// respondedAt is when the server was asked for the response that is in use; zero without a response.
	respondedAt time.Time
}

// query asks about the token, and takes a cached response to a request at since or later.
func (val *validation) query(since time.Time) introspect.Query {
	return introspect.Query{Token: val.Token, Sum: val.sum, Since: since}
}

func (v *Validator) newValidation(ctx context.Context, c Credentials, cert *access.Certificate) validation {
	now := v.now()
	val := validation{ctx: ctx, started: now, presentation: presentation{Credentials: c, cert: cert, now: now}}
	if !v.at.IsZero() {
		val.now = v.at
	}
	return val
}

// withServer returns err with the name of the token's server.
func withServer(s *server, err error) error {
	var d *access.Denial
	if !errors.As(err, &d) {
		return err
	}
	named := *d // a copy, because some Denials are shared
	named.Server = s.name
	return &named
}

func (v *Validator) validate(val *validation) (access.Claims, error) {
	if val.cert == nil {
		return access.Claims{}, access.Denyf(access.NoCertificate, "the request has no client certificate")
	}
	if len(val.Token) > maxToken {
		return access.Claims{}, errTooLong()
	}
	val.sum = facts.SumOf(val.Token)
	if s, claims := v.lookup(val); claims != nil {
		return v.checkToken(s, claims, val)
	}
	if len(v.opaque) > 0 && !jwks.IsJWS(val.Token) {
		return v.introspect(val, v.opaque)
	}
	v.metrics.misses.Inc()
	t, err := parse(val.Token)
	if err != nil {
		return access.Claims{}, err
	}
	s, ok := v.byIssuer[t.issuer]
	switch {
	case !ok:
		return access.Claims{}, errIssuer(t)
	case !s.acceptsJWT: // the gate reads no claims from the server's JWTs
		return v.introspect(val, []*server{s})
	}
	val.server = s
	f, err := s.verify(val, t)
	if err != nil {
		return access.Claims{}, err
	}
	claims, err := v.checkToken(s, &f.claims, val)
	if err == nil {
		v.remember(s, f, v.partner(s.name, claims.ClientID, val.cert), val)
	}
	return claims, err
}

// remember caches the claims of a granted token for partner, or does nothing if partner is "". Claims
// of refused tokens are not cached, because a client can have any number of refused tokens.
func (v *Validator) remember(s *server, f *cachedToken, partner string, val *validation) {
	if partner != "" {
		s.cache.Add(val.sum, f, partner, cachedTokenBytes+facts.Bytes(&f.claims), f.claims.Expires.Add(s.leeway))
	}
}

// lookup returns the cached claims of a token and the token's server. A JWT is in one cache at most,
// because its iss names one server; for an opaque token, lookup returns the first server with cached
// claims. It returns nil if no claims are cached, or if the key that verified the JWT has left the
// key set, so that the JWT must be verified again.
func (v *Validator) lookup(val *validation) (*server, *access.Unchecked) {
	for _, s := range v.servers {
		f, ok := s.cache.Get(val.sum)
		if !ok {
			continue
		}
		set, err := s.keys.Usable(val.started)
		if err != nil {
			continue // the entry becomes usable again with the key set
		}
		if !set.Has(f.key) {
			s.cache.Remove(val.sum)
			continue
		}
		if s.expired(&f.claims, val.now) {
			s.cache.Remove(val.sum)
		}
		v.metrics.hits.Inc()
		val.source = cached
		return s, &f.claims
	}
	isJWS := len(v.opaque) > 0 && jwks.IsJWS(val.Token)
	for _, s := range v.opaque {
		if isJWS && s.acceptsJWT {
			continue // only crossCheck uses the server's responses about JWTs
		}
		if response := s.introspector.Lookup(val.query(time.Time{})); response != nil {
			val.kind, val.source, val.respondedAt = opaque, cached, response.RequestedAt
			return s, &response.Claims
		}
	}
	return nil, nil
}

// cached returns the number of JWTs in all caches.
func (v *Validator) cached() float64 {
	n := 0
	for _, s := range v.servers {
		n += s.cache.Len()
	}
	return float64(n)
}

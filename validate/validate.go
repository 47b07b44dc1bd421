// Package validate decides what a request's access token is worth. In go the raw
// token of [Bearer] and the client certificate of the connection, out come
// [access.Claims] or an [access.Denial]. It verifies the signature with the keys of
// the authorization server that the token names, judges the claims, and last the
// binding of token and certificate, RFC 8705 section 3. What a token says is
// remembered, whether it may pass is judged anew on every request.
package validate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// Options are what a [Validator] needs beside its authorization servers.
type Options struct {
	// Local gives the key set of our own issuer, by its identifier; nil when there
	// is none.
	Local map[config.Identifier]LocalKeySet
	// Revoked reports whether a token has been revoked. It is asked on every
	// request that gets so far, by many goroutines at once. nil: none is.
	Revoked func(access.Unchecked) bool
	Log     *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: nothing is registered
	Now     func() time.Time      // nil: time.Now
}

// LocalKeySet returns the key set of our own issuer as it is at this moment (a JWK Set,
// JSON), nil when it has none yet, and a number that changes with it. It is called on
// every request, by many goroutines at once.
type LocalKeySet func() (document []byte, version uint64)

// A Validator judges access tokens. It is safe for concurrent use.
type Validator struct {
	servers  []*server
	byIssuer map[string]*server
	revoked  func(access.Unchecked) bool
	now      func() time.Time
	metrics  *metrics
}

// New returns a Validator for tokens of servers. It reads key set files and
// anchors, so that a broken one stops the start; key sets at a URL are first read
// by [Validator.Run], and until then their servers' tokens are refused as
// [access.IssuerUnavailable].
func New(servers []config.AuthorizationServer, options Options) (*Validator, error) {
	v := &Validator{
		byIssuer: make(map[string]*server, len(servers)),
		revoked:  options.Revoked,
		now:      options.Now,
	}
	if v.now == nil {
		v.now = time.Now
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	v.metrics = newMetrics(v.cached)
	for _, settings := range servers {
		s, err := newServer(settings, v, options)
		if err != nil {
			return nil, fmt.Errorf("preparing authorization server %q: %w", settings.Name, err)
		}
		if v.byIssuer[s.issuer] != nil {
			return nil, fmt.Errorf("preparing authorization server %q: issuer %q is already taken", settings.Name, s.issuer)
		}
		v.servers = append(v.servers, s)
		v.byIssuer[s.issuer] = s
	}
	if err := v.metrics.register(options.Metrics); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return v, nil
}

func newServer(settings config.AuthorizationServer, v *Validator, options Options) (*server, error) {
	source := &keySource{
		server:     string(settings.Name),
		settings:   settings.KeySet,
		algorithms: settings.Algorithms,
		asked:      make(chan struct{}, 1),
		now:        v.now,
		log:        options.Log,
		metrics:    v.metrics.keySet(string(settings.Name)),
	}
	if settings.KeySet.URL == nil && settings.KeySet.File == "" {
		source.local = options.Local[settings.Issuer]
		if source.local == nil {
			return nil, errors.New("no key set: neither URL nor file is set, and it is not our own issuer")
		}
		source.settings.MaxStale = math.MaxInt64 // ours cannot be out of reach
	}
	if err := source.open(); err != nil {
		return nil, err
	}
	return &server{
		name:       string(settings.Name),
		issuer:     string(settings.Issuer),
		audiences:  settings.Audiences,
		algorithms: settings.Algorithms,
		types:      mediaTypes(settings.Types),
		leeway:     settings.Leeway,
		parser:     newParser(settings.Algorithms),
		keys:       source,
		cache:      newCache(settings.Cache.Entries, v.metrics.evictions),
	}, nil
}

// Run keeps the key sets fresh until ctx ends, and then returns nil. Each
// authorization server has its own loop, so that a slow one delays nobody else.
func (v *Validator) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	for _, s := range v.servers {
		if s.keys.local == nil {
			loops.Go(func() { s.keys.refresh(ctx) })
		}
	}
	<-ctx.Done()
	loops.Wait()
	return nil
}

// Ready returns nil when every authorization server has keys that are not older
// than its max_stale, and otherwise an error that names the others.
func (v *Validator) Ready() error {
	var faults []error
	now := v.now()
	for _, s := range v.servers {
		if _, err := s.keys.usable(now); err != nil {
			faults = append(faults, fmt.Errorf("authorization server %q: %w", s.name, err))
		}
	}
	return errors.Join(faults...)
}

// Validate returns the claims of raw, a token as [Bearer] returns it, when it was
// presented with cert. Every error wraps an [access.Denial], whose ClientID is set
// once the signature has verified.
func (v *Validator) Validate(raw string, cert *access.Certificate) (access.Claims, error) {
	now := v.now()
	claims, from, err := v.validate(raw, cert, now)
	v.metrics.observe(from, err, v.now().Sub(now))
	return claims, err
}

func (v *Validator) validate(raw string, cert *access.Certificate, now time.Time) (access.Claims, origin, error) {
	if cert == nil {
		return access.Claims{}, local, deny(access.NoCertificate, "no client certificate came with the token")
	}
	if len(raw) > maxToken {
		return access.Claims{}, local, denyTooLong()
	}
	sum := sumOf(raw)
	if s, set, facts := v.recall(sum); facts != nil {
		v.metrics.hits.Inc()
		if s.expired(facts, now) {
			s.cache.remove(sum)
		}
		claims, err := v.judge(s, set, facts, cert, now)
		return claims, cached, err
	}
	v.metrics.misses.Inc()
	s, set, fact, err := v.verify(raw, now)
	if err != nil {
		return access.Claims{}, local, err
	}
	if !s.expired(&fact.token, now) {
		s.cache.add(sum, fact)
	}
	claims, err := v.judge(s, set, &fact.token, cert, now)
	return claims, local, err
}

// sumOf returns the SHA-256 of raw. Most tokens fit a buffer on the stack; Sum256
// takes bytes, and converting the string would put a copy of every token on the heap.
func sumOf(raw string) [sha256.Size]byte {
	var buffer [2 << 10]byte
	if len(raw) > len(buffer) {
		return sha256.Sum256([]byte(raw))
	}
	return sha256.Sum256(buffer[:copy(buffer[:], raw)])
}

// recall returns what is remembered of the token with this sum, the server that
// vouched for it, and that server's key set of this moment. The token's iss names
// one server only, so at most one cache has it. It returns nil facts when nothing
// is remembered, or when the key that vouched has left the key set: the token must
// then be verified again.
func (v *Validator) recall(sum [sha256.Size]byte) (*server, *keySet, *access.Unchecked) {
	for _, s := range v.servers {
		f := s.cache.get(sum)
		if f == nil {
			continue
		}
		set := s.keys.latest()
		if set.has(f.key) {
			return s, set, &f.token
		}
		s.cache.remove(sum)
	}
	return nil, nil, nil
}

// verify returns what raw says, verified to come from the server that it names,
// and the key set that it was verified with.
func (v *Validator) verify(raw string, now time.Time) (*server, *keySet, *fact, error) {
	t, err := parse(raw)
	if err != nil {
		return nil, nil, nil, err
	}
	s, ok := v.byIssuer[t.issuer]
	if !ok {
		return nil, nil, nil, deny(access.UnknownIssuer, "issuer %q is not configured", access.Clip(t.issuer))
	}
	set, f, err := s.verify(t, now)
	return s, set, f, err
}

// cached returns how many tokens all servers' caches hold.
func (v *Validator) cached() float64 {
	n := 0
	for _, s := range v.servers {
		n += s.cache.len()
	}
	return float64(n)
}

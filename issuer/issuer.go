// Package issuer is the minimal authorization server: in comes a form from a
// client that authenticates by its certificate (RFC 8705 section 2), out goes an
// access token (RFC 9068, or an opaque one) that works with that certificate alone. It
// tells resource servers what a token says (RFC 7662, RFC 9701), revokes tokens (RFC
// 7009) and publishes its key set and metadata (RFC 8414). Rules decide what is granted.
//
// It shares nothing with package validate but the words of package access, so that
// a bug in one cannot vouch for the other.
package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/keyring"
	"github.com/tallygate/tallygate/issuer/rules"
	"github.com/tallygate/tallygate/issuer/store"
)

// Options is what an [Issuer] needs beside its configuration. All but Now must be
// set.
type Options struct {
	// Anchors lists the trust anchors of each partner, by its configured name. A
	// partner that is absent has none, and its applications get no tokens.
	Anchors map[config.Name][]access.AnchorKey
	// ResourceServerAnchors does so for resource servers.
	ResourceServerAnchors map[config.ClientID][]access.AnchorKey
	// Certificate yields the client certificate of a request, judged at this
	// moment. Its errors wrap *access.Denial.
	Certificate func(*http.Request) (*access.Certificate, error)
	Log         *slog.Logger
	Metrics     prometheus.Registerer
	Now         func() time.Time // nil: time.Now
	// Overloaded reports whether a request is one too many; nil: none is.
	Overloaded func() bool
	// Previous is the issuer that the new one takes the place of, nil for none. They have
	// one state, one key ring and one set of counts; whoever opened, runs and closes the
	// first serves the second by it. What is configured of the state must be the same.
	Previous *Issuer
}

// An Issuer serves the endpoints of the authorization server. It is safe for
// concurrent use once it has been opened.
type Issuer struct {
	settings    *config.Issuer
	partners    map[string]bool          // the names of those configured
	owners      map[string]string        // each application's partner, also where its tokens are another server's
	leeways     map[string]time.Duration // of foreign servers, by identifier
	identifier  string                   // RFC 8414 section 2, byte for byte as configured
	base        string                   // the identifier's path, without a slash at the end
	endpoints   []endpoint
	operator    *http.ServeMux
	clients     map[string]*client // by client_id
	addresses   *addressRates
	policy      *rules.Policy
	revoked     *revocations
	certificate func(*http.Request) (*access.Certificate, error)
	log         *slog.Logger
	metrics     *metrics
	now         func() time.Time
	overloaded  func() bool // nil: never

	issued *atomic.Int64 // the latest iat so far, Unix seconds

	state store.Store   // nil until Open
	keys  *keyring.Ring // nil until Open
}

// New returns the authorization server that cfg.Issuer, which is not nil, describes.
// It reads the files that cfg names and compiles the rules, and reports every fault. It
// does not touch the state, which may be another process's: that is for Open.
func New(cfg *config.Config, options Options) (*Issuer, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	i := &Issuer{
		settings:    cfg.Issuer,
		partners:    make(map[string]bool),
		owners:      make(map[string]string),
		leeways:     make(map[string]time.Duration),
		identifier:  string(cfg.Issuer.Issuer),
		revoked:     newRevocations(),
		issued:      new(atomic.Int64),
		certificate: options.Certificate,
		log:         options.Log,
		now:         options.Now,
		overloaded:  options.Overloaded,
	}
	for _, p := range cfg.Partners.List {
		i.partners[string(p.Name)] = true
		for _, a := range p.Applications {
			i.owners[string(a.ClientID)] = string(p.Name)
		}
	}
	for _, s := range cfg.AuthorizationServers {
		i.leeways[string(s.Issuer)] = s.Leeway
	}
	var faults [6]error
	i.policy, faults[0] = rules.Compile(cfg)
	i.clients, faults[1] = clientsOf(cfg, &options)
	i.base, faults[2] = pathOf(i.identifier)
	i.endpoints, i.operator = i.endpointsUnder(i.base), i.operatorMux()
	i.addresses, faults[3] = newAddressRates(cfg.Issuer.Limits.PerAddress)
	if before := options.Previous; before != nil {
		i.succeed(before)
	} else {
		i.metrics, faults[4] = newMetrics(options.Metrics)
	}
	faults[5] = keyring.Check(cfg.Issuer.Signing)
	if err := errors.Join(faults[:]...); err != nil {
		return nil, err
	}
	return i, nil
}

// succeed takes over what lives longer than a configuration.
func (i *Issuer) succeed(before *Issuer) {
	i.state, i.keys, i.revoked, i.issued, i.metrics = before.state, before.keys, before.revoked, before.issued, before.metrics
}

// Open takes the state, which no other process may have, and the signing keys in it;
// the first time, it makes both. It must have returned nil before anything is served.
func (i *Issuer) Open() error { return i.take(false) }

// Inspect takes the state as it is, for an issuer that is asked about tokens and serves
// nothing. Nothing in it changes.
func (i *Issuer) Inspect() error { return i.take(true) }

func (i *Issuer) take(inspect bool) error {
	state, err := store.Open(string(i.settings.State))
	if err != nil {
		return fmt.Errorf("opening the issuer's state: %w", err)
	}
	if err := i.open(state, inspect); err != nil {
		return errors.Join(fmt.Errorf("opening the issuer's state: %w", err), state.Close())
	}
	return nil
}

func (i *Issuer) open(state store.Store, inspect bool) (err error) {
	if err := i.revoked.open(state); err != nil {
		return err
	}
	i.keys, err = keyring.Open(keyring.Options{
		Store: state, Signing: i.settings.Signing, TokenLifetime: longestLifetime,
		Inspect: inspect, Reloaded: i.metrics.keysReloaded, Log: i.log, Now: i.now,
	})
	i.state = state
	return err
}

// Run rotates the keys and removes what has expired until ctx ends.
func (i *Issuer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return i.keys.Run(ctx) })
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(sweepEvery):
				i.sweep(ctx)
			}
		}
	})
	return group.Wait()
}

// sweep removes what has expired, from memory and from the state.
func (i *Issuer) sweep(ctx context.Context) {
	now := i.now()
	i.revoked.sweep(now)
	if _, err := i.state.Sweep(now); err != nil {
		i.log.WarnContext(ctx, "expired state not removed", "err", err)
	}
}

// Close releases the state. It may be called without Open.
func (i *Issuer) Close() error {
	if i.state == nil {
		return nil
	}
	return i.state.Close()
}

// KeySet returns the JWK Set (RFC 7517 section 5) with the public key of every token
// that the issuer signs, and a number that changes with it; nil before Open. It must not
// be changed.
func (i *Issuer) KeySet() (set []byte, version uint64) {
	if i.keys == nil {
		return nil, 0
	}
	return i.keys.Set()
}

// Revoked reports whether a token has been revoked: by itself, when this issuer signed it,
// and whichever server it comes from with its application or its partner, or with the
// certificate that it is bound to. Another server's clock may be ahead by that server's
// leeway; a token of its that does not say when it was issued may be a day old. It counts
// from the moment at which the revocation is answered. It costs a hash and a few map
// accesses, without allocation.
func (i *Issuer) Revoked(token access.Unchecked) bool {
	issued := token.IssuedAt.Unix()
	if token.Issuer != i.identifier {
		token.TokenID = "" // names another token here, or none
		if token.IssuedAt.IsZero() {
			token.IssuedAt = i.now().Add(-longestLifetime)
		}
		issued = token.IssuedAt.Add(-i.leeways[token.Issuer]).Unix()
	}
	return i.revoked.revokes(token.TokenID, token.ClientID, i.owners[token.ClientID], token.Confirmation.Thumbprint, issued)
}

// An endpoint is one path with its one method.
type endpoint struct {
	method    string
	path      string // compared with the request's path as it was sent
	bodyLimit int64  // bytes
	serve     http.HandlerFunc
}

// Paths under the issuer identifier's own.
const (
	tokenPath      = "/token"
	introspectPath = "/introspect"
	revokePath     = "/revoke"
	keySetPath     = "/jwks"
	// wellKnown goes between host and path of the identifier, RFC 8414 section 3.
	wellKnown = "/.well-known/oauth-authorization-server"
	// openID goes behind it, OpenID Connect Discovery section 4: for clients that
	// look nowhere else.
	openID = "/.well-known/openid-configuration"
)

// pathOf returns the path of an identifier, RFC 8414 section 3.1.
func pathOf(identifier string) (string, error) {
	u, err := url.Parse(identifier)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

func (i *Issuer) endpointsUnder(base string) []endpoint {
	return []endpoint{
		{http.MethodPost, base + tokenPath, 8 << 10, i.serveToken},
		{http.MethodPost, base + introspectPath, 20 << 10, i.serveIntrospect},
		// The longest token that the gate takes, 16 KiB, and 4 KiB for the rest.
		{http.MethodPost, base + revokePath, 20 << 10, i.serveRevoke},
		{http.MethodGet, base + keySetPath, 0, i.serveKeySet},
		{http.MethodGet, wellKnown + base, 0, i.serveMetadata},
		{http.MethodGet, base + openID, 0, i.serveMetadata},
	}
}

// ServeHTTP answers a request to one of the endpoints. Paths and methods are
// compared exactly; anything else is answered with 404 or 405.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	for _, e := range i.endpoints {
		if path != e.path {
			continue
		}
		if r.Method != e.method {
			w.Header().Set("Allow", e.method)
			writeFault(w, methodNotAllowed)
			return
		}
		// The key set and the metadata cost little, and gates need them all the more.
		if r.Method == http.MethodPost && i.overloaded != nil && i.overloaded() {
			writeFault(w, temporarilyUnavailable)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, e.bodyLimit)
		e.serve(w, r)
		return
	}
	writeFault(w, notFound)
}

func (i *Issuer) serveKeySet(w http.ResponseWriter, _ *http.Request) {
	set, _ := i.keys.Set()
	writeJSON(w, http.StatusOK, json.RawMessage(set))
}

// Package issuer is a minimal authorization server. A client authenticates by its certificate (RFC
// 8705 section 2) and gets an access token (RFC 9068, or opaque) that is bound to the certificate.
// The package also serves introspection (RFC 7662, RFC 9701), revocation (RFC 7009), the key set and
// the metadata (RFC 8414). Rules restrict which tokens are granted.
//
// The package shares with package validate only the types of package access, so that a bug in the
// code that signs tokens is not repeated in the code that checks them.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/issuer/feed"
	"github.com/tallygate/tallygate/issuer/keyring"
	"github.com/tallygate/tallygate/issuer/proof"
	"github.com/tallygate/tallygate/issuer/rules"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
	"github.com/tallygate/tallygate/revocation"
)

// Options configures an [Issuer]. A field must be set unless its comment says what nil means.
type Options struct {
	// Anchors lists the trust anchors of each partner by its configured name. An absent partner has
	// no anchors, and its applications get no tokens by tls_client_auth.
	Anchors map[config.Name][]access.AnchorKey
	// ResourceServerAnchors lists the trust anchors of each resource server.
	ResourceServerAnchors map[config.ClientID][]access.AnchorKey
	// OperatorAnchors lists the trust anchors of each operator by its configured name. No anchor of a partner may be
	// among them.
	OperatorAnchors map[config.Name][]access.AnchorKey
	// Certificate returns the client certificate of a request, checked at the time of the call. Its
	// errors wrap *access.Denial.
	Certificate func(*http.Request) (*access.Certificate, error)
	Log         *slog.Logger
	Metrics     prometheus.Registerer
	Now         func() time.Time // nil means time.Now
	// Overloaded reports whether a request must be refused for lack of capacity. Nil means never.
	Overloaded func() bool
	// Requests counts the concurrent requests, the request that is served among them. A stream of revocations is
	// taken out for as long as it is open, because it would count as load for weeks. Nil means that requests are not counted.
	Requests *atomic.Int64
	// Current returns the issuer of the present configuration, which judges open streams of revocations. Nil means this
	// issuer.
	Current func() *Issuer
	// Revocations is the set that the issuer fills; nil means a new set. Issuers that share a Lease must have the same set.
	Revocations *revocation.Set
	// Lease shares the state, keys, revocations and metrics with the issuer before a reload, so that
	// the new issuer needs no call of Open. Closing either issuer closes the state. Both issuers must
	// have the same settings of the state.
	Lease *reuse.Lease
}

// An Issuer serves the endpoints of the authorization server. It is safe for concurrent use
// after Open.
type Issuer struct {
	settings    *config.Issuer
	partners    map[string]bool   // configured names
	owners      map[string]string // partner by client_id, for applications with tokens of any authorization server
	revoking    *revocation.Rules
	identifier  string // RFC 8414 section 2, byte for byte as configured
	base        string // path of the identifier, without a trailing slash
	endpoints   []endpoint
	operator    *http.ServeMux
	clients     map[string]*client // by client_id
	operators   []operator
	addresses   *addressRates
	policy      *rules.Policy
	proofs      *proof.Checker
	certificate func(*http.Request) (*access.Certificate, error)
	log         *slog.Logger
	now         func() time.Time
	overloaded  func() bool // nil means that the issuer is never overloaded
	requests    *atomic.Int64
	latest      func() *Issuer
	*shared
}

// shared has the values that all issuers of a process share across reloads.
type shared struct {
	revocations    *revocations
	feed           *feed.Feed
	metrics        *metrics
	latestIssuedAt atomic.Int64 // Unix seconds
	sweepFailed    atomic.Bool  // the last sweep did

	state state         // nil until Open
	keys  *keyring.Ring // nil until Open
}

func newShared(identifier string, options *Options) (*shared, error) {
	s := &shared{revocations: newRevocations()}
	if options.Revocations != nil {
		s.revocations.set = options.Revocations
	}
	var noMetrics, noFeed error
	s.metrics, noMetrics = newMetrics(options.Metrics)
	s.feed, noFeed = feed.New(feed.Options{
		Issuer: identifier, Set: s.revocations.set, Complete: s.revocations.complete, Log: options.Log, Metrics: options.Metrics, Now: options.Now,
		Sign: func(typ string, claims jwt.Claims) (string, error) { return s.keys.Sign(typ, claims) },
		KeyVersion: func() uint64 {
			_, version := s.keys.Set()
			return version
		},
	})
	s.revocations.publish = s.feed.Publish
	return s, errors.Join(noMetrics, noFeed, s.registerCurrent(options.Metrics))
}

// New returns the authorization server for cfg.Issuer, which must not be nil. It reads the files that
// cfg names, compiles the rules and returns all errors. It does not open the state, which another
// process may have open; Open opens the state.
func New(cfg *config.Config, options Options) (*Issuer, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	i := &Issuer{
		settings:    cfg.Issuer,
		partners:    make(map[string]bool),
		owners:      make(map[string]string),
		identifier:  string(cfg.Issuer.Issuer),
		certificate: options.Certificate,
		log:         options.Log,
		now:         options.Now,
		overloaded:  options.Overloaded,
		requests:    options.Requests,
		latest:      options.Current,
	}
	for _, p := range cfg.Partners.List {
		i.partners[string(p.Name)] = true
		for _, a := range p.Applications {
			i.owners[string(a.ClientID)] = string(p.Name)
		}
	}
	i.revoking = revocation.NewRules(cfg, cfg.Issuer.Issuer)
	var noShared, noRules, noClients, noPath, noRates error
	i.shared, noShared = reuse.Acquire(options.Lease, "issuer", true, func(*shared) (*shared, error) { return newShared(i.identifier, &options) }, nil)
	i.policy, noRules = rules.Compile(cfg)
	i.clients, noClients = newClients(cfg, &options)
	i.operators = newOperators(cfg.Issuer, options.OperatorAnchors)
	i.base, noPath = pathOf(i.identifier)
	endpoints, aliases := i.endpointURLs()
	i.proofs = proof.New(cfg.DPoP, endpoints.Token, aliases.Token)
	i.endpoints, i.operator = i.newEndpoints(i.base), i.operatorMux()
	i.addresses, noRates = newAddressRates(cfg.Issuer.Limits.PerAddress)
	if err := errors.Join(noRules, noClients, noPath, noRates, noShared, keyring.Check(cfg.Issuer.Signing), postgres.CheckFiles(cfg.Issuer.Database)); err != nil {
		return nil, err
	}
	return i, nil
}

// Open opens and locks the state and loads the signing keys. On the first start it creates both. The
// issuer must not serve requests before Open returns nil. If a database is away, Open tries again for a minute, or
// until ctx ends, because database and issuer often start at the same moment.
func (i *Issuer) Open(ctx context.Context) error { return i.openWithin(ctx, openTimeout) }

func (i *Issuer) openWithin(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for logged := false; ; logged = true {
		err := i.openState(false, false)
		if !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		if !logged {
			i.log.WarnContext(ctx, "the issuer's state is away, and the start waits for it", "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(openInterval):
		}
	}
}

// Attach is Open for a command of the operator. It creates and migrates no tables in a database, which
// issuers of another release may use.
func (i *Issuer) Attach() error { return i.openState(true, false) }

// Inspect opens and locks the state for an issuer on which only [Issuer.Resolve] and [Issuer.Revoked]
// are called. It changes nothing in the state.
func (i *Issuer) Inspect() error { return i.openState(true, true) }

func (i *Issuer) openState(attach, inspect bool) error {
	state, err := openStore(i.settings, attach, i.log)
	if err != nil {
		return fmt.Errorf("opening the issuer's state: %w", err)
	}
	if err := i.load(state, inspect); err != nil {
		return errors.Join(fmt.Errorf("opening the issuer's state: %w", err), state.Close())
	}
	return nil
}

func (i *Issuer) load(state state, inspect bool) (err error) {
	if err := i.revocations.load(state); err != nil {
		return err
	}
	i.keys, err = keyring.Open(keyring.Options{
		Store: state, Signing: i.settings.Signing, TokenLifetime: maxTokenLifetime,
		Inspect: inspect, Shared: i.settings.Database != nil, Reloaded: i.metrics.keysReloaded, Log: i.log, Now: i.now,
	})
	i.state = state
	return err
}

// Run rotates the signing keys, takes over the revocations of other processes that share the state, and
// removes expired tokens and revocations, until ctx ends.
func (i *Issuer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return i.keys.Run(ctx) })
	group.Go(func() error { return i.state.Follow(ctx, i.revocations.take) })
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(sweepInterval):
				i.sweep(ctx)
			}
		}
	})
	return group.Wait()
}

// sweep removes expired tokens and revocations from the state, and then from memory. What a database refuses to remove
// because our clock is wrong must stay in memory, which is not filled from the database again. A file keeps records for the same reason.
func (i *Issuer) sweep(ctx context.Context) {
	now := i.now()
	_, err := i.state.Sweep(now)
	if failed := i.sweepFailed.Swap(err != nil); err != nil {
		if !failed { // a clock that has stepped or a database that is away fails each sweep for a while
			i.log.WarnContext(ctx, "expired tokens and revocations not removed", "error", err)
		}
		return
	}
	i.revocations.sweep(now)
}

// Close closes the state. It may be called even if Open was not called.
func (i *Issuer) Close() error {
	if i.state == nil {
		return nil
	}
	return i.state.Close()
}

// KeySet returns the JWK Set (RFC 7517 section 5) with every published key, and a version that
// changes when the set changes. Before Open the set is nil. The caller must not change the set.
func (i *Issuer) KeySet() (set []byte, version uint64) {
	if i.keys == nil {
		return nil, 0
	}
	return i.keys.Set()
}

// Revoked reports whether a token has been revoked, see [Issuer.RevokedBy].
func (i *Issuer) Revoked(token access.Unchecked) (bool, error) {
	by, err := i.RevokedBy(token)
	return by != 0, err
}

// RevokedBy returns by what kind of revocation a token has been revoked, or 0 if it has not. A token of this issuer may be revoked itself. A
// token of any authorization server is also revoked by a revocation of the token's application, of the
// partner, or of the certificate that the token is bound to. The iat of another server's token is
// reduced by the configured leeway, because the clock of that server may be ahead. If such a token has
// no iat, Revoked assumes that the token is 24 hours old. A revocation takes effect as soon as it is
// acknowledged by this process, and within a second if it is acknowledged by another process that
// shares the state. With an error it is unknown whether the token is revoked. Revoked costs one hash
// and a few map accesses, and does not allocate.
func (i *Issuer) RevokedBy(token access.Unchecked) (revocation.Kind, error) {
	err := i.current() // before the revocations are consulted
	var now time.Time
	if token.IssuedAt.IsZero() { // otherwise the rules do not look at the clock
		now = i.now()
	}
	return i.revoking.RevokedBy(i.revocations.set, &token, now), err
}

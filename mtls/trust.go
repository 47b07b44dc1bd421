// Package mtls authenticates clients by their certificates. From the configured anchors and the
// key pair of a listener it makes the *tls.Config of the listener, and it returns the client
// certificate of each request, checked at the time of the request.
package mtls

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/crl"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/internal/weakkey"
)

// Trust checks client certificates against the anchors of the configuration. It is safe for
// concurrent use.
type Trust struct {
	// pool holds the anchors of all partners, so that each chain is verified once. The key of the
	// anchor at the end of a chain says which partners accept the chain. pool is never nil, because
	// crypto/x509 would use the roots of the system.
	pool          *x509.CertPool
	certificates  map[[sha256.Size]byte]bool     // the certificates in pool, by the SHA-256 of their DER
	authorities   authorities                    // every authority of the configuration, including the authorities of front proxies
	rsa1024Until  map[access.AnchorKey]time.Time // the end of insecure_rsa_1024_until, by anchor
	anchors       map[config.Name][]access.AnchorKey
	anchorsEnd    map[config.Name]time.Time              // the earliest end of an anchor
	partners      map[access.AnchorKey]bool              // the keys in anchors
	servers       map[config.ClientID][]access.AnchorKey // the anchors of resource servers
	operators     map[config.Name][]access.AnchorKey     // the anchors of the issuer's operators
	selfSigned    bool
	serverAuth    bool // at least one application accepts certificates for server authentication alone
	verifications *cache.Cache[*verification]
	// connections maps weak.Pointer[tls.ConnectionState] to *connection. At a reload the next Trust
	// takes over the map, so the map must not keep any Trust alive.
	connections  *sync.Map
	self         weak.Pointer[Trust]
	revocation   *crl.Checker              // nil without revocation lists
	revocations  Revocations               // nil if no issuer revokes certificates
	frontProxies *trustedProxies           // nil if clients connect to the gate and not to a front proxy
	excluded     map[access.AnchorKey]bool // authorities that no chain may contain
	log          *slog.Logger
	metrics      *crl.Metrics
	now          func() time.Time
}

// Options are what a [Trust] needs in addition to its configuration.
type Options struct {
	// Previous is the Trust before a reload; nil at the start.
	Previous *Trust
	Memory   *cache.Pool  // nil means a new pool of [cache.DefaultBytes]
	Log      *slog.Logger // if nil, nothing is logged
	Metrics  *crl.Metrics // nil means metrics that are not registered
	// Revocations has the certificates that an issuer has revoked by their thumbprint; with nil no certificate is revoked by
	// an issuer. Its dynamic type must be comparable.
	Revocations Revocations
	// Now is the clock for validity periods and revocation lists. If Now is nil, the clock is
	// time.Now.
	Now func() time.Time
}

// Revocations are the certificates that an issuer has revoked. They are safe for concurrent use.
type Revocations interface {
	// Certificate reports whether the certificate with the thumbprint t is revoked.
	Certificate(t access.Thumbprint) bool
}

// LoadTrust reads the anchors, and the revocation lists in files, that cfg names. The error joins all
// faults: a file without certificates, a certificate that is no authority or has a weak key, a
// revocation list that is incomplete or not signed by an authority of the configuration. LoadTrust
// returns options.Previous if the configuration and the files have not changed.
func LoadTrust(cfg *config.Config, options Options) (*Trust, error) {
	memory := options.Memory
	if memory == nil {
		memory = cache.NewPool(cache.DefaultBytes)
	}
	t := newTrust(memory)
	t.selfSigned = cfg.Listener.ClientCertificates.SelfSigned
	t.serverAuth = acceptsServerAuth(cfg)
	t.log, t.metrics, t.revocations = options.Log, options.Metrics, options.Revocations
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.metrics == nil {
		t.metrics = crl.NewMetrics(nil)
	}
	if options.Now != nil {
		t.now = options.Now
	}
	files := bundles{}
	t.addAnchors(cfg, files)
	if cfg.Listener.ClientCertificates.From == config.FromHeader {
		t.frontProxies = loadTrustedProxies(cfg.Listener.ClientCertificates.Header, files, memory)
		t.frontProxies.exclude(cfg, files)
	}
	short, mixed := rsa1024Exceptions(cfg, t)
	if err := errors.Join(files.err(), mixed, sharedConstraints(cfg, files), t.operatorsDisjoint(cfg, files), t.frontProxies.checkDisjoint(cfg, files)); err != nil {
		return nil, err
	}
	t.rsa1024Until = short
	t.certificates, t.authorities = files.sums(), newAuthorities(files.all())
	previous := options.Previous
	if previous == nil {
		previous = &Trust{connections: t.connections}
	}
	t.connections = previous.connections
	var err error
	t.revocation, err = crl.Load(&cfg.Listener.ClientCertificates.Revocation, files.all(), crl.Options{Previous: previous.revocation, Log: t.log, Metrics: t.metrics})
	if err != nil {
		return nil, err
	}
	if t.frontProxies != nil { // certificates of front proxies may be revoked too
		t.frontProxies.trust.authorities = t.authorities
		t.frontProxies.trust.revocation, t.frontProxies.trust.connections = t.revocation, t.connections
		t.frontProxies.trust.revocations = t.revocations
	}
	same := t.revocations == previous.revocations && t.revocation.Equal(previous.revocation)
	if options.Previous != nil && same && !t.RemovesTrust(previous) && !previous.RemovesTrust(t) {
		return previous, nil
	}
	return t, nil
}

// addAnchors adds the anchors of partners, resource servers and operators to t. files reports the faults.
func (t *Trust) addAnchors(cfg *config.Config, files bundles) {
	t.anchors = make(map[config.Name][]access.AnchorKey, len(cfg.Partners.List))
	t.anchorsEnd = make(map[config.Name]time.Time, len(cfg.Partners.List))
	shared := files.keys(t.pool, cfg.Listener.ClientCertificates.Trust, false)
	for _, p := range cfg.Partners.List {
		t.anchors[p.Name], t.anchorsEnd[p.Name] = shared, files.end(cfg.Listener.ClientCertificates.Trust)
		if len(p.Trust) > 0 {
			t.anchors[p.Name] = files.keys(t.pool, p.Trust, !p.InsecureRSA1024Until.IsZero())
			t.anchorsEnd[p.Name] = files.end(p.Trust)
		}
	}
	t.partners = keysOf(t.anchors)
	if cfg.Issuer != nil {
		t.servers = make(map[config.ClientID][]access.AnchorKey, len(cfg.Issuer.ResourceServers))
		for _, s := range cfg.Issuer.ResourceServers {
			t.servers[s.ClientID] = shared
			if len(s.Trust) > 0 {
				t.servers[s.ClientID] = files.keys(t.pool, s.Trust, false)
			}
		}
		t.operators = make(map[config.Name][]access.AnchorKey, len(cfg.Issuer.Operators))
		for _, o := range cfg.Issuer.Operators {
			t.operators[o.Name] = files.keys(t.pool, o.Trust, false)
		}
	}
}

// acceptsServerAuth reports whether an application accepts certificates for server authentication alone.
func acceptsServerAuth(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Partners.List, func(p config.Partner) bool {
		return slices.ContainsFunc(p.Applications, config.Application.AcceptsServerAuth)
	})
}

// Run refreshes the revocation lists at URLs until ctx ends. At a reload, Run of the previous Trust
// must return before Run of the next Trust is called.
func (t *Trust) Run(ctx context.Context) {
	if t.revocation != nil {
		t.revocation.Run(ctx)
	} else {
		t.metrics.Clear()
	}
	<-ctx.Done()
}

// Prefetch fetches the revocation lists at URLs that the previous Trust did not have. It must be
// called before Run. The error names the lists that could not be fetched.
func (t *Trust) Prefetch(ctx context.Context) error {
	if t.revocation == nil {
		return nil
	}
	return t.revocation.FetchAdded(ctx)
}

// Ready returns nil once the gate has tried to fetch every revocation list. So a gate that has just
// started does not refuse clients that other gates accept. A list that cannot be fetched does not
// keep the gate unready, because it affects only the certificates of its own authority.
func (t *Trust) Ready() error {
	if t.revocation == nil {
		return nil
	}
	return t.revocation.Ready()
}

// newTrust returns a Trust without anchors. memory bounds its cache of verifications.
func newTrust(memory *cache.Pool) *Trust {
	t := &Trust{
		pool: x509.NewCertPool(), verifications: cache.New[*verification](memory, maxCachedChains, nil), connections: new(sync.Map),
		now: time.Now,
	}
	t.self = weak.Make(t)
	return t
}

// Anchors returns the keys of the anchors of each partner. The caller must not change the map.
func (t *Trust) Anchors() map[config.Name][]access.AnchorKey { return t.anchors }

// AnchorsEnd returns, for each partner, the earliest end of validity of its anchors, or the zero time if it
// has none. The caller must not change the map.
func (t *Trust) AnchorsEnd() map[config.Name]time.Time { return t.anchorsEnd }

// ResourceServerAnchors returns the keys of the anchors of each resource server. The caller must
// not change the map.
func (t *Trust) ResourceServerAnchors() map[config.ClientID][]access.AnchorKey { return t.servers }

// OperatorAnchors returns the keys of the anchors of each operator of the issuer. No anchor of a partner or of the
// listener is among them. The caller must not change the map.
func (t *Trust) OperatorAnchors() map[config.Name][]access.AnchorKey { return t.operators }

// IsAuthority reports whether t is the thumbprint of a configured authority.
func (t *Trust) IsAuthority(thumbprint access.Thumbprint) bool { return t.certificates[thumbprint] }

// bundles holds the anchor files by path. Each file is read once, even if many partners name it.
type bundles map[config.Path]bundle

type bundle struct {
	certificates []*x509.Certificate
	err          error
	shortRSA     error // the fault of RSA keys below the minimum length
}

// keys adds the anchors in files to pool and returns their keys. Faults of the files are in the
// result of err. With allowShort, a short RSA key is not a fault.
func (b bundles) keys(pool *x509.CertPool, files []config.Path, allowShort bool) []access.AnchorKey {
	var keys []access.AnchorKey
	for _, file := range files {
		read, ok := b[file]
		if !ok {
			read = readAnchors(file)
		}
		if !allowShort && read.shortRSA != nil {
			read.err, read.shortRSA = errors.Join(read.err, read.shortRSA), nil
		}
		b[file] = read
		for _, c := range read.certificates {
			pool.AddCert(withoutHandledExtensions(c)) // satisfyConstraints checks the constraints of the anchor
			keys = append(keys, anchorKeyOf(c))
		}
	}
	return keys
}

// end returns the earliest end of validity of the certificates in files, or the zero time for no
// certificates. keys must have read the files.
func (b bundles) end(files []config.Path) (end time.Time) {
	for _, file := range files {
		for _, c := range b[file].certificates {
			if end.IsZero() || c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
	}
	return end
}

// sums returns the SHA-256 of every certificate in the files.
func (b bundles) sums() map[[sha256.Size]byte]bool {
	sums := make(map[[sha256.Size]byte]bool)
	for _, read := range b {
		for _, c := range read.certificates {
			sums[sha256.Sum256(c.Raw)] = true
		}
	}
	return sums
}

// all returns every certificate in the files.
func (b bundles) all() []*x509.Certificate {
	var all []*x509.Certificate
	for _, file := range slices.Sorted(maps.Keys(b)) {
		all = append(all, b[file].certificates...)
	}
	return all
}

// err returns the faults of all files.
func (b bundles) err() error {
	var faults []error
	for _, read := range b {
		if read.err != nil {
			faults = append(faults, read.err)
		}
	}
	return errors.Join(faults...)
}

func anchorKeyOf(c *x509.Certificate) access.AnchorKey {
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}

// readAnchors reads the authorities in a PEM file as anchors.
func readAnchors(file config.Path) (read bundle) {
	certificates, err := pemfile.ReadAuthorities(string(file))
	if err != nil { // err is also set for a leaf, because a leaf as an anchor would authenticate itself
		return bundle{err: fmt.Errorf("reading anchors: %w", err)}
	}
	var faults, short []error
	for _, c := range certificates {
		switch err := weakkey.Check(c.PublicKey); {
		case errors.Is(err, weakkey.ErrShort):
			short = append(short, fmt.Errorf("reading anchors: %s: the certificate of %s has %w; a partner's insecure_rsa_1024_until allows it for a time", c.Position, c.Subject, err))
		case err != nil:
			faults = append(faults, fmt.Errorf("reading anchors: %s: the certificate of %s has %w", c.Position, c.Subject, err))
		}
		read.certificates = append(read.certificates, c.Certificate)
	}
	read.err, read.shortRSA = errors.Join(faults...), errors.Join(short...)
	return read
}

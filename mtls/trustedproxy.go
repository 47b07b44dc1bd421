package mtls

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/cache"
)

// trustedProxies recognizes requests of trusted front proxies and parses the headers in which front
// proxies send client certificates.
type trustedProxies struct {
	settings config.CertificateHeader
	formats  []format
	trust    *Trust                         // checks the certificates of the front proxies
	keys     []access.AnchorKey             // keys of the anchors in trust
	names    []config.RegisteredCertificate // a certificate of a front proxy must have one of these names
	known    *cache.Cache[*connection]      // parsed headers, by headerKey
}

// loadTrustedProxies reads the anchors of front proxies through files, which collects the faults.
// memory bounds the cache of certificates from headers.
func loadTrustedProxies(settings *config.CertificateHeader, files bundles, memory *cache.Pool) *trustedProxies {
	f := &trustedProxies{
		settings: *settings, formats: formatsOf(settings),
		known: cache.New[*connection](memory, maxCachedHeaders, nil), trust: newTrust(memory),
	}
	if named := settings.TrustedProxies.Certificates; named != nil {
		f.keys = files.keys(f.trust.pool, named.Trust, false)
		for _, name := range named.SANDNS {
			f.names = append(f.names, config.RegisteredCertificate{SANDNS: name})
		}
	}
	return f
}

// exclude makes f refuse front proxies with a chain through an authority of a partner. checkDisjoint
// finds such chains only between configured certificates, but a client can present other
// certificates.
func (f *trustedProxies) exclude(cfg *config.Config, files bundles) {
	f.trust.excluded = make(map[access.AnchorKey]bool)
	for _, p := range cfg.Partners.List {
		for _, file := range p.Trust {
			for _, c := range files[file].certificates {
				f.trust.excluded[anchorKeyOf(c)] = true
			}
		}
	}
}

// checkDisjoint returns an error if an anchor of a partner is also an anchor of front proxies, or
// chains to such an anchor: the partner's authority could then issue certificates for front proxies.
// f may be nil.
func (f *trustedProxies) checkDisjoint(cfg *config.Config, files bundles) error {
	if f == nil {
		return nil
	}
	above := x509.NewCertPool()
	for _, c := range files.all() {
		above.AddCert(withoutHandledExtensions(c))
	}
	chainsToProxyAnchor := func(c *x509.Certificate) bool {
		_, err := withoutHandledExtensions(c).Verify(x509.VerifyOptions{Roots: f.trust.pool, Intermediates: above, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err == nil || slices.Contains(f.keys, anchorKeyOf(c))
	}
	var faults []error
	for _, p := range cfg.Partners.List {
		for _, file := range p.Trust {
			if slices.ContainsFunc(files[file].certificates, chainsToProxyAnchor) {
				faults = append(faults, fmt.Errorf("an anchor of partner %q is an anchor of the trusted front proxies, or chains to one: its authority could impersonate every partner", p.Name))
				break
			}
		}
	}
	return errors.Join(faults...)
}

// equal reports whether f and g have the same settings and anchors. f and g may be nil.
func (f *trustedProxies) equal(g *trustedProxies) bool {
	if f == nil || g == nil {
		return f == g
	}
	return reflect.DeepEqual(f.settings, g.settings) && slices.Equal(f.keys, g.keys) && maps.Equal(f.trust.excluded, g.trust.excluded)
}

// PeerTrust returns the Trust for the TLS connections of the partners' listener. The peers of these
// connections are the front proxies if client certificates come in headers, and otherwise the
// clients.
func (t *Trust) PeerTrust() *Trust {
	if t.frontProxies != nil {
		return t.frontProxies.trust
	}
	return t
}

// BehindProxy reports whether clients reach the gate through front proxies, so that one connection
// carries requests of many clients.
func (t *Trust) BehindProxy() bool { return t.frontProxies != nil }

var (
	errProxyAddress  = errors.New("the address of the sender is not one of a trusted front proxy")
	errProxyName     = errors.New("the certificate of the sender has no name of a trusted front proxy")
	errNoProxies     = errors.New("no front proxy is configured as trusted")
	untrustedAddress = &access.Denial{Reason: access.NoCertificate, Err: errProxyAddress}
	untrustedName    = &access.Denial{Reason: access.NoCertificate, Err: errProxyName}
)

// CheckSender returns nil if the gate may take the client certificate from r. If client certificates
// come in headers, the sender of r must be a trusted front proxy. The error is an [access.Denial].
func (t *Trust) CheckSender(r *http.Request) error {
	if t.frontProxies == nil {
		return nil
	}
	return t.frontProxies.admit(r)
}

// admit returns nil if r comes from a trusted front proxy: the address of the socket and the
// certificate of the connection must match, if the configuration has addresses or certificates.
// Addresses in headers (X-Forwarded-For, PROXY protocol) are not used. The check is repeated for each
// request.
func (f *trustedProxies) admit(r *http.Request) error {
	trusted := &f.settings.TrustedProxies
	if len(trusted.Addresses) == 0 && trusted.Certificates == nil {
		return &access.Denial{Reason: access.NoCertificate, Err: errNoProxies}
	}
	if len(trusted.Addresses) > 0 && !config.Includes(trusted.Addresses, socketPeerOf(r)) {
		return untrustedAddress
	}
	if trusted.Certificates == nil {
		return nil
	}
	own, err := f.trust.Peer(r)
	switch {
	case err != nil && access.ReasonOf(err) == access.RevocationUnknown:
		return err // the answer is 503, because the gate cannot decide
	case err != nil:
		return &access.Denial{Reason: access.NoCertificate, Err: fmt.Errorf("the certificate of the sender is not one of a trusted front proxy: %w", err)}
	}
	if !slices.ContainsFunc(f.names, func(n config.RegisteredCertificate) bool { return n.MatchesName(own.Leaf) }) {
		return untrustedName
	}
	return nil
}

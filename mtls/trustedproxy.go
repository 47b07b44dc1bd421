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

// A front tells trusted front proxies from everybody else, and reads the certificates that
// they pass on.
type trustedProxies struct {
	settings config.CertificateHeader
	formats  []format
	trust    *Trust                         // judges their own certificates
	keys     []access.AnchorKey             // of the anchors that these chain to
	names    []config.RegisteredCertificate // of which they carry one
	known    *cache.Cache[*connection]
}

// loadFront adds the anchors of front proxies to files, which reports those that cannot
// be read. What front proxies pass on is remembered in memory.
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

// bar lets no partner's own authority vouch for a front proxy, whatever certificates lead
// from it to an anchor of theirs: only those of the configuration can be told at its load.
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

// apart returns an error where a partner's own authority could make itself a front proxy:
// it is one of theirs, or one of theirs vouches for it.
func (f *trustedProxies) checkDisjoint(cfg *config.Config, files bundles) error {
	if f == nil {
		return nil
	}
	above := x509.NewCertPool()
	for _, c := range files.all() {
		above.AddCert(withoutHandledExtensions(c))
	}
	vouched := func(c *x509.Certificate) bool {
		_, err := withoutHandledExtensions(c).Verify(x509.VerifyOptions{Roots: f.trust.pool, Intermediates: above, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err == nil || slices.Contains(f.keys, anchorKeyOf(c))
	}
	var faults []error
	for _, p := range cfg.Partners.List {
		for _, file := range p.Trust {
			if slices.ContainsFunc(files[file].certificates, vouched) {
				faults = append(faults, fmt.Errorf("an anchor of partner %q is one of the trusted front proxies, or chains to one: its authority could speak for every partner", p.Name))
				break
			}
		}
	}
	return errors.Join(faults...)
}

// same reports whether f trusts and reads what g does. Either may be nil.
func (f *trustedProxies) same(g *trustedProxies) bool {
	if f == nil || g == nil {
		return f == g
	}
	return reflect.DeepEqual(f.settings, g.settings) && slices.Equal(f.keys, g.keys) && maps.Equal(f.trust.excluded, g.trust.excluded)
}

// Peers returns what judges the certificates that are shown at the partners' listener:
// those of front proxies, where these pass the clients' on, and otherwise the clients' own.
func (t *Trust) PeerTrust() *Trust {
	if t.frontProxies != nil {
		return t.frontProxies.trust
	}
	return t
}

// Fronted reports whether clients reach the gate through front proxies, so that requests
// of many come over one connection.
func (t *Trust) BehindProxy() bool { return t.frontProxies != nil }

var (
	errProxyAddress  = errors.New("the sender is no trusted front proxy: not by its address")
	errProxyName     = errors.New("the sender is no trusted front proxy: its own certificate has none of their names")
	errNoProxies     = errors.New("no front proxy is trusted")
	untrustedAddress = &access.Denial{Reason: access.NoCertificate, Err: errProxyAddress}
	untrustedName    = &access.Denial{Reason: access.NoCertificate, Err: errProxyName}
)

// admit returns nil when r comes from a trusted front proxy: from one of their addresses
// and over a connection of one of their certificates, as far as these are configured. What
// r says of its way does not matter, nor does what was found out on an earlier request.
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
		return err // there is no telling
	case err != nil:
		return &access.Denial{Reason: access.NoCertificate, Err: fmt.Errorf("the sender is no trusted front proxy: its own certificate: %w", err)}
	}
	if !slices.ContainsFunc(f.names, func(n config.RegisteredCertificate) bool { return n.MatchesName(own.Leaf) }) {
		return untrustedName
	}
	return nil
}

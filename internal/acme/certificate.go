package acme

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
)

// Certificate returns what to show to a client: the certificate of the domain that it asks
// for, or else that of the first. It errs when there is none yet, which ends the handshake.
func (a *Manager) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	domains := a.settings.Load().Domains
	domain := domains[0]
	if asked := config.Host(strings.ToLower(hello.ServerName)); slices.Contains(domains, asked) {
		domain = asked
	}
	if c := a.newest(domain); c != nil {
		return c, nil
	}
	return nil, none(domain)
}

// newest returns the certificate of domain that is valid longest, nil for none.
func (a *Manager) newest(domain config.Host) (newest *tls.Certificate) {
	if a.client.Load() == nil {
		return nil
	}
	for _, c := range a.cache.AllMatchingCertificates(string(domain)) {
		if newest == nil || c.Leaf.NotAfter.After(newest.Leaf.NotAfter) {
			newest = &c.Certificate
		}
	}
	return newest
}

func none(domain config.Host) error {
	return fmt.Errorf("no certificate for %s has been obtained yet", domain)
}

// Ready returns nil once each domain has had a valid certificate. A domain that is added
// later has no say: while it has none, the others are served all the same. A nil ACME is
// ready.
func (a *Manager) Ready() error {
	if a == nil || a.complete.Load() {
		return nil
	}
	for _, domain := range a.settings.Load().Domains {
		if c := a.newest(domain); c == nil || time.Now().After(c.Leaf.NotAfter) {
			return none(domain)
		}
	}
	a.complete.Store(true)
	return nil
}

// NotAfter returns when the first of the certificates ends, and whether there are any.
func (a *Manager) NotAfter() (first time.Time, found bool) {
	for _, domain := range a.settings.Load().Domains {
		if c := a.newest(domain); c != nil && (!found || c.Leaf.NotAfter.Before(first)) {
			first, found = c.Leaf.NotAfter, true
		}
	}
	return first, found
}

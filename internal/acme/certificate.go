package acme

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
)

// Certificate returns the certificate of the domain in the client's SNI, or the certificate of the first
// domain. It returns an error, which ends the handshake, if that certificate has not been obtained yet.
func (a *Manager) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	domains := a.settings.Load().Domains
	domain := domains[0]
	if asked := config.Host(strings.ToLower(hello.ServerName)); slices.Contains(domains, asked) {
		domain = asked
	}
	if c := a.latest(domain); c != nil {
		return c, nil
	}
	return nil, &NoCertificateError{domain}
}

// latest returns the certificate of domain with the latest NotAfter, or nil if domain has no
// certificate.
func (a *Manager) latest(domain config.Host) (latest *tls.Certificate) {
	if a.client.Load() == nil {
		return nil
	}
	for _, c := range a.cache.AllMatchingCertificates(string(domain)) {
		if latest == nil || c.Leaf.NotAfter.After(latest.Leaf.NotAfter) {
			latest = &c.Certificate
		}
	}
	return latest
}

// A NoCertificateError is the error of a handshake for a domain that has no certificate yet.
type NoCertificateError struct{ Domain config.Host }

func (e *NoCertificateError) Error() string {
	return fmt.Sprintf("no certificate for %s has been obtained yet", e.Domain)
}

// Ready returns nil once each domain has had a valid certificate. Domains that a reload adds later are
// not waited for, because the gate can serve the other domains without their certificates. A nil
// Manager is ready.
func (a *Manager) Ready() error {
	if a == nil || a.complete.Load() {
		return nil
	}
	for _, domain := range a.settings.Load().Domains {
		if c := a.latest(domain); c == nil || time.Now().After(c.Leaf.NotAfter) {
			return &NoCertificateError{domain}
		}
	}
	a.complete.Store(true)
	return nil
}

// NotAfter returns the earliest NotAfter of the certificates. found is false if there is no
// certificate.
func (a *Manager) NotAfter() (first time.Time, found bool) {
	for _, domain := range a.settings.Load().Domains {
		if c := a.latest(domain); c != nil && (!found || c.Leaf.NotAfter.Before(first)) {
			first, found = c.Leaf.NotAfter, true
		}
	}
	return first, found
}

package history

import (
	"slices"
	"strings"
	"time"
)

// A Certificate is a client certificate with which granted requests came.
type Certificate struct {
	ClientID   string // the application of the first request with the certificate
	Thumbprint [32]byte
	Subject    string
	Issuer     string
	NotAfter   time.Time
	First      time.Time
	Last       time.Time
}

// See remembers that a granted request of a partner came with the certificate that thumbprint identifies.
// describe returns the names and the end of the certificate. For a certificate that h has, See neither calls
// describe nor allocates. If the partner has certificatesPerPartner certificates, the new certificate
// replaces the certificate whose last request is oldest. If all partners together have maxCertificates, it
// replaces a certificate of the same partner, and is dropped if the partner has no certificate.
func (h *History) See(name, clientID string, thumbprint [32]byte, at time.Time, describe func() (subject, issuer string, notAfter time.Time)) {
	if p := h.find(name); p != nil && p.seen(thumbprint, at) {
		return
	}
	h.adding.Lock()
	defer h.adding.Unlock()
	p := h.findOrAdd(name)
	switch full := h.certificates >= maxCertificates; {
	case p.seen(thumbprint, at): // another goroutine has added the certificate
		return
	case p.dropCertificate(full):
	case full:
		return
	default:
		h.certificates++
	}
	subject, issuer, notAfter := describe()
	p.see(&Certificate{strings.Clone(clientID), thumbprint, subject, issuer, notAfter, at, at})
}

// seen sets the time of the last request with the certificate, and reports whether p has the certificate.
func (p *partner) seen(thumbprint [32]byte, at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.certificates {
		if c.Thumbprint == thumbprint {
			c.Last = at
			return true
		}
	}
	return false
}

func (p *partner) see(c *Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.certificates = append(p.certificates, c)
}

// dropCertificate drops the certificate whose last request is oldest if p has certificatesPerPartner
// certificates, or if full is true. It reports whether it has dropped a certificate.
func (p *partner) dropCertificate(full bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.certificates); n == 0 || n < certificatesPerPartner && !full {
		return false
	}
	oldest := slices.MinFunc(p.certificates, func(a, b *Certificate) int { return a.Last.Compare(b.Last) })
	p.certificates = slices.DeleteFunc(p.certificates, func(c *Certificate) bool { return c == oldest })
	return true
}

package crl

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"slices"
)

// A signer is an authority as the signer of certificates and lists: its name and its key. Authorities with
// one name and different keys are different signers.
type signer struct{ name, key [sha256.Size]byte }

func signerOf(authority *x509.Certificate) signer {
	return signer{sha256.Sum256(authority.RawSubject), sha256.Sum256(authority.RawSubjectPublicKeyInfo)}
}

// A serial is the serial number of a certificate, at most 20 octets (RFC 5280 section 4.1.2.2), with leading
// zeros.
type serial [20]byte

// serialOf returns the serial number of c. ok is false if the number is negative or too long. No list
// can have such a number.
func serialOf(c *x509.Certificate) (s serial, ok bool) {
	if c.SerialNumber.Sign() < 0 || c.SerialNumber.BitLen() > 8*len(s) {
		return serial{}, false
	}
	c.SerialNumber.FillBytes(s[:])
	return s, true
}

// A Certificate has the fields of a certificate that decide whether a list covers and revokes it.
type Certificate struct {
	by        signer // the zero signer if no known authority signed the certificate
	number    serial
	listable  bool     // a revocation list can have the serial number
	authority bool     // true for the certificate of an authority, false for the client's certificate
	points    []string // the URIs of its CRL distribution points
}

// maxPoints and maxPointLength bound the distribution points that are kept for a certificate,
// because they are untrusted text. A certificate with more or longer points is covered only by
// lists without a distribution point.
const maxPoints, maxPointLength = 8, 512

func certificateOf(c *x509.Certificate, by signer, authority bool) Certificate {
	l := Certificate{by: by, authority: authority}
	l.number, l.listable = serialOf(c)
	long := slices.ContainsFunc(c.CRLDistributionPoints, func(p string) bool { return len(p) > maxPointLength })
	if len(c.CRLDistributionPoints) <= maxPoints && !long {
		l.points = slices.Clone(c.CRLDistributionPoints)
	}
	return l
}

// Chain returns the certificates to check for a chain, the leaf first and the anchor last. The anchor
// is included only if another known authority signed the anchor, because that authority may have
// revoked it.
func (c *Checker) Chain(chain []*x509.Certificate) []Certificate {
	var certificates []Certificate
	for i, certificate := range chain[:len(chain)-1] {
		certificates = append(certificates, certificateOf(certificate, signerOf(chain[i+1]), i > 0))
	}
	return c.appendIssuers(certificates, chain[len(chain)-1])
}

// Unchained returns the certificates to check for a leaf whose chain the client did not send. The gate
// accepts such a leaf by its thumbprint, but the authority that issued the leaf may have revoked it.
func (c *Checker) Unchained(leaf *x509.Certificate) []Certificate {
	by := c.issuerOf(leaf)
	if by == nil {
		return []Certificate{certificateOf(leaf, signer{}, false)}
	}
	return c.appendIssuers([]Certificate{certificateOf(leaf, signerOf(by), false)}, by)
}

// appendIssuers appends authority if a known authority signed it, then appends that known authority
// under the same condition, and so on.
func (c *Checker) appendIssuers(certificates []Certificate, authority *x509.Certificate) []Certificate {
	for range maxCrossSigned {
		by := c.issuerOf(authority)
		if by == nil {
			break
		}
		certificates = append(certificates, certificateOf(authority, signerOf(by), true))
		authority = by
	}
	return certificates
}

// maxCrossSigned ends the loop for authorities that have signed each other.
const maxCrossSigned = 8

// issuerOf returns the known authority that signed certificate. It returns nil if no known
// authority did, or if certificate is signed with its own key.
func (c *Checker) issuerOf(certificate *x509.Certificate) *x509.Certificate {
	for _, a := range c.authorities {
		otherKey := !bytes.Equal(a.RawSubjectPublicKeyInfo, certificate.RawSubjectPublicKeyInfo)
		if otherKey && bytes.Equal(a.RawSubject, certificate.RawIssuer) && certificate.CheckSignatureFrom(a) == nil {
			return a
		}
	}
	return nil
}

// inScope reports whether c is in the scope of l (RFC 5280 section 6.3.3 (b)): l is a list for the kind
// of certificate that c is and, if l has distribution points, c has at least one of these points.
func (l *list) inScope(c *Certificate) bool {
	if c.authority && !l.authority || !c.authority && !l.users {
		return false
	}
	return len(l.points) == 0 || slices.ContainsFunc(l.points, func(p string) bool { return slices.Contains(c.points, p) })
}

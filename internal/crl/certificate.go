package crl

import (
	"bytes"
	"crypto/x509"
	"slices"
)

// A Certificate is one certificate of a way from a client certificate to an anchor, as a list
// would name it.
type Certificate struct {
	by        signer // nobody's when no authority that is known signed it
	number    serial
	listable  bool     // its serial number may stand in a list
	authority bool     // it is not the client's
	points    []string // where it says that its list is
}

// maxPoints and maxPointLength bound what is kept of a certificate's own words. One that
// says more is covered by lists for no place in particular alone.
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

// Chain returns the certificates of a way, the client's first. That of the anchor is one
// of them only if another authority that is known has signed it: it may have been revoked
// as well.
func (r *Checker) Chain(way []*x509.Certificate) []Certificate {
	var certificates []Certificate
	for i, c := range way[:len(way)-1] {
		certificates = append(certificates, certificateOf(c, signerOf(way[i+1]), i > 0))
	}
	return r.appendIssuers(certificates, way[len(way)-1])
}

// Unchained returns what is to be looked up of a certificate whose chain the client left out:
// it counts by its thumbprint, but whoever signed it may have revoked it.
func (r *Checker) Unchained(leaf *x509.Certificate) []Certificate {
	by := r.issuerOf(leaf)
	if by == nil {
		return []Certificate{certificateOf(leaf, signer{}, false)}
	}
	return r.appendIssuers([]Certificate{certificateOf(leaf, signerOf(by), false)}, by)
}

// appendIssuers appends to certificates an authority that others have signed, and those in turn.
func (r *Checker) appendIssuers(certificates []Certificate, authority *x509.Certificate) []Certificate {
	for range maxCrossSigned {
		by := r.issuerOf(authority)
		if by == nil {
			break
		}
		certificates = append(certificates, certificateOf(authority, signerOf(by), true))
		authority = by
	}
	return certificates
}

// maxCrossSigned bounds authorities that have signed each other.
const maxCrossSigned = 8

// issuerOf returns the authority that signed c, unless that is c's own key; nil for none.
func (r *Checker) issuerOf(c *x509.Certificate) *x509.Certificate {
	for _, a := range r.authorities {
		other := !bytes.Equal(a.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
		if other && bytes.Equal(a.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(a) == nil {
			return a
		}
	}
	return nil
}

// inScope reports whether l says of c's certificate whether it is revoked, RFC 5280 section
// 6.3.3 (b): it is for certificates of that kind and, if it is for a place, for those that
// name the place.
func (l *list) inScope(c *Certificate) bool {
	if c.authority && !l.authority || !c.authority && !l.users {
		return false
	}
	return len(l.points) == 0 || slices.ContainsFunc(l.points, func(p string) bool { return slices.Contains(c.points, p) })
}

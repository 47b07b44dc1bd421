package mtls

import (
	"bytes"
	"crypto/x509"
	"slices"
)

// A link is one certificate of a way from a client certificate to an anchor, as a list
// would name it.
type link struct {
	by        signer // nobody's when no authority that is known signed it
	number    serial
	listable  bool     // its serial number may stand in a list
	authority bool     // it is not the client's
	points    []string // where it says that its list is
}

// mostPoints and longestPoint bound what is kept of a certificate's own words. One that
// says more is covered by lists for no place in particular alone.
const mostPoints, longestPoint = 8, 512

func linkOf(c *x509.Certificate, by signer, authority bool) link {
	l := link{by: by, authority: authority}
	l.number, l.listable = serialOf(c)
	long := slices.ContainsFunc(c.CRLDistributionPoints, func(p string) bool { return len(p) > longestPoint })
	if len(c.CRLDistributionPoints) <= mostPoints && !long {
		l.points = slices.Clone(c.CRLDistributionPoints)
	}
	return l
}

// linksOf returns the certificates of a way, the client's first. That of the anchor is one
// of them only if another authority that is known has signed it: it may have been revoked
// as well.
func (r *revocation) linksOf(way []*x509.Certificate) []link {
	var links []link
	for i, c := range way[:len(way)-1] {
		links = append(links, linkOf(c, signerOf(way[i+1]), i > 0))
	}
	return r.above(links, way[len(way)-1])
}

// orphan returns what is to be looked up of a certificate whose chain the client left out:
// it counts by its thumbprint, but whoever signed it may have revoked it.
func (r *revocation) orphan(leaf *x509.Certificate) []link {
	by := r.signedBy(leaf)
	if by == nil {
		return []link{linkOf(leaf, signer{}, false)}
	}
	return r.above([]link{linkOf(leaf, signerOf(by), false)}, by)
}

// above appends to links an authority that others have signed, and those in turn.
func (r *revocation) above(links []link, authority *x509.Certificate) []link {
	for range mostAbove {
		by := r.signedBy(authority)
		if by == nil {
			break
		}
		links = append(links, linkOf(authority, signerOf(by), true))
		authority = by
	}
	return links
}

// mostAbove bounds authorities that have signed each other.
const mostAbove = 8

// signedBy returns the authority that signed c, unless that is c's own key; nil for none.
func (r *revocation) signedBy(c *x509.Certificate) *x509.Certificate {
	for _, a := range r.authorities {
		other := !bytes.Equal(a.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
		if other && bytes.Equal(a.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(a) == nil {
			return a
		}
	}
	return nil
}

// covers reports whether l says of c's certificate whether it is revoked, RFC 5280 section
// 6.3.3 (b): it is for certificates of that kind and, if it is for a place, for those that
// name the place.
func (l *list) covers(c *link) bool {
	if c.authority && !l.authority || !c.authority && !l.users {
		return false
	}
	return len(l.points) == 0 || slices.ContainsFunc(l.points, func(p string) bool { return slices.Contains(c.points, p) })
}

package config

import (
	"crypto/x509"
	"iter"
)

// subjectAltName is the identifier of the extension, 2.5.29.17 (RFC 5280 section
// 4.2.1.6).
var subjectAltName = []int{2, 5, 29, 17}

// tagURI is uniformResourceIdentifier, the GeneralName [6], an IA5String.
const tagURI = 0x86

// URIs returns the uniformResourceIdentifiers in cert's subjectAltName as they are
// encoded, in their order. The field of the same name in cert holds them parsed, and
// what it prints need not be what was in the certificate: HTTP: becomes http:, an
// empty fragment goes.
func URIs(cert *x509.Certificate) []string {
	var uris []string
	for raw := range rawURIs(cert) {
		uris = append(uris, string(raw))
	}
	return uris
}

// carriesURI reports whether one of cert's URIs is exactly uri.
func carriesURI(cert *x509.Certificate, uri URI) bool {
	for raw := range rawURIs(cert) {
		if string(raw) == string(uri) {
			return true
		}
	}
	return false
}

// rawURIs yields the URIs up to the first malformed name: crypto/x509 has refused a
// certificate with one.
func rawURIs(cert *x509.Certificate) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range cert.Extensions {
			if !cert.Extensions[i].Id.Equal(subjectAltName) {
				continue
			}
			names, after, ok := readElement(cert.Extensions[i].Value)
			if !ok || names.tag != tagSequence || len(after) > 0 {
				return
			}
			for rest := names.content; len(rest) > 0; {
				var name derElement
				if name, rest, ok = readElement(rest); !ok {
					return
				}
				if name.tag == tagURI && !yield(name.content) {
					return
				}
			}
		}
	}
}

package config

import (
	"crypto/x509"
	"slices"
)

// Names reports whether r registers a name, a subject DN or a SAN.
func (r RegisteredCertificate) Names() bool {
	return !r.SubjectDN.IsZero() || r.SANDNS != ""
}

// Open reports whether r registers nothing at all, so that every certificate of the
// partner's own anchors is the application's.
func (r RegisteredCertificate) Open() bool { return !r.Names() && len(r.Thumbprints) == 0 }

// MatchesName reports whether cert carries every name that r registers (RFC 8705
// section 2.1.2): the whole subject, compared by structure, or one dNSName of the
// subjectAltName, compared whole and without regard to the case of ASCII letters.
// The common name is no host name and "*" is a letter like any other. An r without
// names and a nil cert match nothing. It is the one predicate that the gate and
// the issuer obey.
func (r RegisteredCertificate) MatchesName(cert *x509.Certificate) bool {
	if cert == nil || !r.Names() {
		return false
	}
	if !r.SubjectDN.IsZero() && !r.SubjectDN.MatchesSubject(cert.RawSubject) {
		return false
	}
	return r.SANDNS == "" || slices.ContainsFunc(cert.DNSNames, func(name string) bool {
		return equalFoldASCII(name, r.SANDNS)
	})
}

// Pins reports whether thumbprint, the SHA-256 of a certificate's DER, is
// registered. The zero thumbprint never is.
func (r RegisteredCertificate) Pins(thumbprint [32]byte) bool {
	return thumbprint != [32]byte{} && slices.Contains(r.Thumbprints, Thumbprint(thumbprint))
}

// equalFoldASCII compares without regard to the case of ASCII letters only:
// strings.EqualFold would also take U+212A, the Kelvin sign, for a k.
func equalFoldASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}

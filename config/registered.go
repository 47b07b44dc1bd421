package config

import (
	"crypto/x509"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
)

// names returns the keys of the names that r registers.
func (r *RegisteredCertificate) names() []string {
	var keys []string
	for _, name := range []struct {
		key        string
		registered bool
	}{
		{"subject_dn", !r.SubjectDN.IsZero()},
		{"san_dns", r.SANDNS != ""},
		{"san_uri", r.SANURI != ""},
		{"san_ip", r.SANIP.IsValid()},
		{"san_email", r.SANEmail != ""},
	} {
		if name.registered {
			keys = append(keys, name.key)
		}
	}
	return keys
}

// Names reports whether r registers a name, a subject DN or a SAN.
func (r RegisteredCertificate) Names() bool {
	return !r.SubjectDN.IsZero() || r.SANDNS != "" || r.SANURI != "" || r.SANIP.IsValid() || r.SANEmail != ""
}

// MatchesAny reports whether r registers neither a name nor a thumbprint. Then every certificate
// that chains to an anchor of the partner is the application's.
func (r RegisteredCertificate) MatchesAny() bool { return !r.Names() && len(r.Thumbprints) == 0 }

// MatchesName reports whether cert carries every name that r registers (RFC 8705
// section 2.1.2): the whole subject, compared by structure, or one entry of the
// subjectAltName of the same kind, compared whole:
//
//   - a dNSName without regard to the case of ASCII letters;
//   - a uniformResourceIdentifier byte for byte, as it is encoded: nothing is put in
//     another form first, so a percent sign, a case or a slash at the end counts;
//   - an iPAddress in binary form, IPv4 and IPv4-mapped IPv6 being two;
//   - an rfc822Name with its domain without regard to the case of ASCII letters.
//
// The common name is no host name and "*" is a letter like any other. An r without
// names and a nil cert match nothing. It is the one predicate that the gate and
// the issuer obey.
func (r RegisteredCertificate) MatchesName(cert *x509.Certificate) bool {
	if cert == nil || !r.Names() {
		return false
	}
	return (r.SubjectDN.IsZero() || r.SubjectDN.MatchesSubject(cert.RawSubject)) &&
		(r.SANDNS == "" || certname.HasDNSName(cert, r.SANDNS)) &&
		(r.SANURI == "" || r.SANURI.Matches(cert)) &&
		(!r.SANIP.IsValid() || r.SANIP.Matches(cert)) &&
		(r.SANEmail == "" || r.SANEmail.Matches(cert))
}

// HasThumbprint reports whether thumbprint is registered. The zero thumbprint never is.
func (r RegisteredCertificate) HasThumbprint(thumbprint access.Thumbprint) bool {
	return thumbprint != access.Thumbprint{} && slices.Contains(r.Thumbprints, thumbprint)
}

// String says which certificates are registered, under their keys; "" for any.
func (r *RegisteredCertificate) String() string {
	var said []string
	for _, name := range []struct{ key, value string }{
		{"subject_dn", r.SubjectDN.String()},
		{"san_dns", r.SANDNS},
		{"san_uri", string(r.SANURI)},
		{"san_email", string(r.SANEmail)},
	} {
		if name.value != "" {
			said = append(said, name.key+" "+name.value)
		}
	}
	if r.SANIP.IsValid() {
		said = append(said, "san_ip "+r.SANIP.String())
	}
	for _, t := range r.Thumbprints {
		said = append(said, "thumbprint "+t.String())
	}
	return strings.Join(said, " or ")
}

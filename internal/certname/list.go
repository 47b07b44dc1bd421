package certname

import (
	"crypto/x509"
	"encoding"
	"net/netip"
)

// Name is a name of a certificate that can be registered.
type Name struct {
	Key   string // the configuration key: subject_dn, san_dns, san_uri, san_ip or san_email
	Value string // the value for the key
}

// List returns the names of cert. A setting that registers a returned name under its key matches cert.
// List omits names that the configuration would refuse, such as a subject with the same attribute twice
// in one RDN. Values have no control characters and no other characters that do not print. cert may be any
// client's, with thousands of names: List compares each name with itself only.
func List(cert *x509.Certificate) []Name {
	var names []Name
	add := func(key, value string, matches bool) {
		if matches {
			names = append(names, Name{key, value})
		}
	}
	subject := subjectOf(cert.RawSubject).String()
	var dn DN
	add("subject_dn", subject, parses(&dn, subject) && dn.MatchesSubject(cert.RawSubject))
	for _, name := range cert.DNSNames {
		add("san_dns", name, CheckDNSName(name) == nil)
	}
	for _, name := range URIs(cert) {
		var uri URI
		add("san_uri", name, parses(&uri, name) && string(uri) == name)
	}
	for _, octets := range cert.IPAddresses {
		address, _ := netip.AddrFromSlice(octets) // after an error, address is zero, and its text does not parse
		var ip IP
		add("san_ip", address.String(), parses(&ip, address.String()) && ip.Addr == address)
	}
	for _, mailbox := range cert.EmailAddresses {
		var email Email
		add("san_email", mailbox, parses(&email, mailbox) && email.equals(mailbox))
	}
	return names
}

// Text returns the name that der, the DER of a subject or issuer, encodes, in the form of RFC 4514. It is
// "" for an empty or malformed name.
func Text(der []byte) string { return subjectOf(der).String() }

func parses(name encoding.TextUnmarshaler, text string) bool {
	return name.UnmarshalText([]byte(text)) == nil
}

package config

import (
	"crypto/x509"
	"net/netip"
	"slices"
)

// CertificateName is a name that a certificate carries and that can be registered.
type CertificateName struct {
	Key   string // in [RegisteredCertificate]: subject_dn, san_dns, san_uri, san_ip or san_email
	Value string // as it is written there
}

// CertificateNames returns the names of cert, each spelled so that, registered by its
// key, cert matches it. Names that the configuration would not take are left out, such
// as a subject with the same attribute twice between two commas. Values are free of
// control characters and of whatever else does not print.
func CertificateNames(cert *x509.Certificate) []CertificateName {
	var names []CertificateName
	add := func(key, value string, read func(r *RegisteredCertificate) error) {
		var r RegisteredCertificate
		if err := read(&r); err == nil && r.MatchesName(cert) {
			names = append(names, CertificateName{key, value})
		}
	}
	subject := subjectOf(cert.RawSubject).String()
	add("subject_dn", subject, func(r *RegisteredCertificate) error { return r.SubjectDN.UnmarshalText([]byte(subject)) })
	for _, name := range cert.DNSNames {
		add("san_dns", name, func(r *RegisteredCertificate) error { r.SANDNS = name; return checkSANDNS(name) })
	}
	for _, uri := range URIs(cert) {
		add("san_uri", uri, func(r *RegisteredCertificate) error { return r.SANURI.UnmarshalText([]byte(uri)) })
	}
	for _, octets := range cert.IPAddresses {
		ip, _ := netip.AddrFromSlice(octets) // the zero address is written as nothing that can be read
		add("san_ip", ip.String(), func(r *RegisteredCertificate) error { return r.SANIP.UnmarshalText([]byte(ip.String())) })
	}
	for _, mailbox := range cert.EmailAddresses {
		add("san_email", mailbox, func(r *RegisteredCertificate) error { return r.SANEmail.UnmarshalText([]byte(mailbox)) })
	}
	return names
}

// subjectOf returns the name that rawSubject, the DER of a certificate's subject,
// encodes, and the zero DN for an empty or malformed one.
func subjectOf(rawSubject []byte) DN {
	name, _, ok := readElement(rawSubject)
	if !ok {
		return DN{}
	}
	var d DN
	for rest := name.content; len(rest) > 0; {
		var set derElement
		if set, rest, ok = readElement(rest); !ok {
			return DN{}
		}
		var rdn relativeName
		for attributes := set.content; len(attributes) > 0; {
			var a derAttribute
			if a, attributes, ok = readAttribute(attributes); !ok {
				return DN{}
			}
			rdn = append(rdn, attribute{string(a.oid), string(a.text), string(a.der)})
		}
		slices.SortFunc(rdn, compareAttributes)
		d.rdns = append(d.rdns, rdn)
	}
	return d
}

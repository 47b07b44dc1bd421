package certname

import (
	"slices"
	"strings"
)

// Reversed returns d with its RDNs in the opposite order.
func (d DN) Reversed() DN {
	reversed := slices.Clone(d.rdns)
	slices.Reverse(reversed)
	return DN{reversed}
}

// LeafFirst reports whether the DER of d begins with the holder's own name and ends with the country,
// organization or domain. The DER of nearly all subjects has the opposite order. Tools such as openssl
// print it in that order, and RFC 4514 section 2.1 writes it from the end: so a name that was copied
// from such a tool is LeafFirst.
func (d DN) LeafFirst() bool {
	if len(d.rdns) < 2 {
		return false
	}
	return d.rdns[0].hasType("CN", "UID", "serialNumber", "emailAddress") && d.rdns[len(d.rdns)-1].hasType("C", "O", "DC", "ST", "L")
}

// SubjectIsLeafFirst is [DN.LeafFirst] for the DER of a certificate's subject.
func SubjectIsLeafFirst(rawSubject []byte) bool { return subjectOf(rawSubject).LeafFirst() }

// hasType reports whether an attribute of r has one of the types, given by their short names.
func (r rdn) hasType(names ...string) bool {
	return slices.ContainsFunc(r, func(a attribute) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(typeName(a.oid), name) })
	})
}

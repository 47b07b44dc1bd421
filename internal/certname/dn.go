// Package certname parses, matches and lists the names that a certificate carries: its subject,
// a distinguished name (RFC 4514), and the entries of its subjectAltName (RFC 5280 section
// 4.2.1.6). These are the names by which RFC 8705 section 2.1.2 registers a client. The gate and
// the issuer match by the same functions. Values are immutable and safe for concurrent use.
package certname

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// DN is a distinguished name, RFC 4514. DNs are compared by structure and never as text: RDN by
// RDN in order, the attributes of an RDN as a set, types by object identifier, decoded values
// exactly. The zero DN has no RDNs and matches nothing.
type DN struct {
	rdns []rdn // in the order of the DER, the reverse of the order in text
}

// rdn is a relative distinguished name: its attributes in the order of compareAttributes, without
// duplicates.
type rdn []attribute

// attribute is a type and a value, which is in text or in der. The string type of the text is not kept,
// because the same text in two string types is the same name.
type attribute struct {
	oid  string // DER contents octets of the type's object identifier
	text string // the value of a string type, never empty; "" for another type
	der  string // the whole DER of a value of any other type
}

// IsZero reports whether d has no RDNs.
func (d DN) IsZero() bool { return len(d.rdns) == 0 }

// String returns d in the form of RFC 4514. Equal names have equal strings, even if they were parsed
// from different texts.
func (d DN) String() string {
	var b strings.Builder
	for i, rdn := range slices.Backward(d.rdns) {
		for j, a := range rdn {
			if j > 0 {
				b.WriteByte('+')
			}
			b.WriteString(typeName(a.oid) + "=" + a.value())
		}
		if i > 0 {
			b.WriteByte(',')
		}
	}
	return b.String()
}

// typeName returns the short name of an attribute type, or its dotted identifier.
func typeName(oid string) string {
	for _, t := range attributeTypes {
		if t.oid == oid {
			return t.name
		}
	}
	var id x509.OID
	if err := id.UnmarshalBinary([]byte(oid)); err != nil {
		return "?" // the type in the certificate is malformed
	}
	return id.String()
}

// value returns a's value with the escapes of RFC 4514 section 2.4. Characters that do not print are
// written in hexadecimal, because a terminal could execute them.
func (a attribute) value() string {
	if a.der != "" {
		return "#" + hex.EncodeToString([]byte(a.der))
	}
	var b strings.Builder
	for i, r := range a.text {
		c := a.text[i : i+utf8.RuneLen(r)]
		outer := i == 0 || i+len(c) == len(a.text)
		switch {
		case !unicode.IsPrint(r):
			for _, octet := range []byte(c) {
				b.WriteString(`\` + hex.EncodeToString([]byte{octet}))
			}
			continue
		case strings.Contains(mustEscape, c), r == ' ' && outer, r == '#' && i == 0:
			b.WriteByte('\\')
		}
		b.WriteString(c)
	}
	return b.String()
}

// MatchesSubject reports whether rawSubject, the DER of a certificate's subject, encodes d. It is false
// for malformed DER. MatchesSubject runs on every request and does not allocate, except for a
// BMPString.
func (d DN) MatchesSubject(rawSubject []byte) bool {
	der := cryptobyte.String(rawSubject)
	var sequence cryptobyte.String
	if !der.ReadASN1(&sequence, asn1.SEQUENCE) || !der.Empty() || d.IsZero() {
		return false
	}
	for _, rdn := range d.rdns {
		var set cryptobyte.String
		if !sequence.ReadASN1(&set, asn1.SET) || !rdn.matches(set) {
			return false
		}
	}
	return sequence.Empty()
}

// matches reports whether set, the contents of a DER SET, has exactly the attributes of r.
func (r rdn) matches(set cryptobyte.String) bool {
	attributes := make([]Attribute, 0, 4) // attributes stays on the stack; nearly every RDN has one attribute
	for !set.Empty() {
		a, ok := ReadAttribute(&set)
		if !ok {
			return false
		}
		attributes = append(attributes, a)
	}
	slices.SortFunc(attributes, func(a, b Attribute) int { // in the order of r, because comparing unsorted attributes takes quadratic time, and a certificate may have thousands
		return cmp.Or(bytes.Compare(a.OID, b.OID), bytes.Compare(a.Text, b.Text), bytes.Compare(a.DER, b.DER))
	})
	return slices.EqualFunc(r, attributes, attribute.equals)
}

func (a attribute) equals(other Attribute) bool {
	return string(other.OID) == a.oid && string(other.Text) == a.text && string(other.DER) == a.der
}

// subjectOf returns the name that rawSubject, the DER of a certificate's subject, encodes. The
// result is the zero DN for an empty or malformed subject.
func subjectOf(rawSubject []byte) DN {
	der := cryptobyte.String(rawSubject)
	var sequence cryptobyte.String
	if !der.ReadASN1(&sequence, asn1.SEQUENCE) {
		return DN{}
	}
	var d DN
	for !sequence.Empty() {
		var set cryptobyte.String
		if !sequence.ReadASN1(&set, asn1.SET) {
			return DN{}
		}
		var r rdn
		for !set.Empty() {
			a, ok := ReadAttribute(&set)
			if !ok {
				return DN{}
			}
			r = append(r, attribute{string(a.OID), string(a.Text), string(a.DER)})
		}
		slices.SortFunc(r, compareAttributes)
		d.rdns = append(d.rdns, r)
	}
	return d
}

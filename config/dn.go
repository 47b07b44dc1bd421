package config

import (
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DN is a distinguished name, RFC 4514, compared by structure: RDN by RDN in
// order, the attributes of an RDN as a set, types by object identifier, values
// exactly, after decoding. Names are never compared as text. The zero DN is no
// name and matches nothing.
type DN struct {
	rdns []relativeName // in the order of the DER, which is the reverse of the text's
}

// relativeName is an RDN: attributes in the order of compareAttributes, none twice.
type relativeName []attribute

// attribute is a type and its value, which is either text or der. Which of the
// string types text was in does not count: the encodings differ, the name does not.
type attribute struct {
	oid  string // object identifier of the type, the contents octets of its DER
	text string // the value, when it is of a string type; never empty then
	der  string // the whole DER of a value of any other type
}

// IsZero reports whether d is no name at all.
func (d DN) IsZero() bool { return len(d.rdns) == 0 }

// String returns d in RFC 4514 form. Equal names have equal strings, whatever
// spelling they were read from.
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
		return "?" // never: oid was marshalled from one
	}
	return id.String()
}

// value returns a's value with the escapes of RFC 4514 section 2.4, and what does not
// print in hexadecimal.
func (a attribute) value() string {
	if a.der != "" {
		return "#" + hex.EncodeToString([]byte(a.der))
	}
	var b strings.Builder
	for i, r := range a.text {
		c := a.text[i : i+utf8.RuneLen(r)]
		outer := i == 0 || i+len(c) == len(a.text)
		switch {
		case !unicode.IsPrint(r): // a terminal may obey it
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

// MatchesSubject reports whether rawSubject, the DER of a certificate's subject, is
// d. DER that is malformed matches nothing.
func (d DN) MatchesSubject(rawSubject []byte) bool {
	name, rest, ok := readElement(rawSubject)
	if !ok || name.tag != tagSequence || len(rest) > 0 || d.IsZero() {
		return false
	}
	rest = name.content
	for _, rdn := range d.rdns {
		var set derElement
		if set, rest, ok = readElement(rest); !ok || set.tag != tagSet || !rdn.matches(set.content) {
			return false
		}
	}
	return len(rest) == 0
}

// matches reports whether set, the contents of a DER SET, has exactly the attributes
// of r.
func (r relativeName) matches(set []byte) bool {
	attributes := make([]derAttribute, 0, 4) // on the stack; nearly every RDN has one
	for len(set) > 0 {
		a, rest, ok := readAttribute(set)
		if !ok {
			return false
		}
		attributes, set = append(attributes, a), rest
	}
	// No attribute is in r twice, so equal numbers leave nothing over in set.
	return len(attributes) == len(r) && !slices.ContainsFunc(r, func(a attribute) bool {
		return !slices.ContainsFunc(attributes, a.equals)
	})
}

func (a attribute) equals(other derAttribute) bool {
	return string(other.oid) == a.oid && string(other.text) == a.text && string(other.der) == a.der
}

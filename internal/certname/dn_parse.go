package certname

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"

	"github.com/tallygate/tallygate/internal/ascii"
)

// attributeTypes lists the short names of attribute types: the names in RFC 4514 section 3 and RFC
// 4519, and further names that are common in certificates of companies. [DN.String] writes the
// first of two names for a type.
var attributeTypes = []struct{ name, oid string }{
	{"CN", contents("2.5.4.3")},
	{"SN", contents("2.5.4.4")},
	{"serialNumber", contents("2.5.4.5")},
	{"C", contents("2.5.4.6")},
	{"L", contents("2.5.4.7")},
	{"ST", contents("2.5.4.8")},
	{"STREET", contents("2.5.4.9")},
	{"O", contents("2.5.4.10")},
	{"OU", contents("2.5.4.11")},
	{"title", contents("2.5.4.12")},
	{"description", contents("2.5.4.13")},
	{"businessCategory", contents("2.5.4.15")},
	{"postalCode", contents("2.5.4.17")},
	{"telephoneNumber", contents("2.5.4.20")},
	{"name", contents("2.5.4.41")},
	{"givenName", contents("2.5.4.42")},
	{"GN", contents("2.5.4.42")},
	{"initials", contents("2.5.4.43")},
	{"generationQualifier", contents("2.5.4.44")},
	{"dnQualifier", contents("2.5.4.46")},
	{"pseudonym", contents("2.5.4.65")},
	{"organizationIdentifier", contents("2.5.4.97")},
	{"DC", contents("0.9.2342.19200300.100.1.25")},
	{"UID", contents("0.9.2342.19200300.100.1.1")},
	{"emailAddress", contents("1.2.840.113549.1.9.1")},
	{"E", contents("1.2.840.113549.1.9.1")},
	{"jurisdictionL", contents("1.3.6.1.4.1.311.60.2.1.1")},
	{"jurisdictionLocality", contents("1.3.6.1.4.1.311.60.2.1.1")},
	{"jurisdictionST", contents("1.3.6.1.4.1.311.60.2.1.2")},
	{"jurisdictionStateOrProvince", contents("1.3.6.1.4.1.311.60.2.1.2")},
	{"jurisdictionC", contents("1.3.6.1.4.1.311.60.2.1.3")},
	{"jurisdictionCountry", contents("1.3.6.1.4.1.311.60.2.1.3")},
}

// contents returns the DER contents octets of a dotted object identifier, or "" if dotted is
// malformed.
func contents(dotted string) string {
	oid, err := x509.ParseOID(dotted)
	if err != nil {
		return ""
	}
	der, err := oid.MarshalBinary()
	if err != nil {
		return ""
	}
	return string(der)
}

// UnmarshalText sets d to the result of [ParseDN], or to the zero DN for empty text. After an error
// d is unchanged.
func (d *DN) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = DN{}
		return nil
	}
	parsed, err := ParseDN(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// ParseDN parses a distinguished name in the form of RFC 4514, in which the RDN that is last in
// the certificate comes first. Beyond the standard, spaces around ",", "+" and "=" are ignored,
// and a dotted type can be prefixed with "OID.". Quoted values and ";" between RDNs, both allowed
// by RFC 2253, are errors.
func ParseDN(s string) (DN, error) {
	var d DN
	var current rdn
	for more := true; more; {
		a, separator, rest, err := parseAttribute(s)
		if err != nil {
			return DN{}, err
		}
		current = append(current, a)
		if separator != '+' {
			slices.SortFunc(current, compareAttributes)
			for i := 1; i < len(current); i++ {
				if twice := current[i]; twice == current[i-1] {
					return DN{}, fmt.Errorf("%s=%s occurs twice between two commas", typeName(twice.oid), twice.value())
				}
			}
			d.rdns = append(d.rdns, current)
			current = nil
		}
		s, more = rest, separator != 0
	}
	slices.Reverse(d.rdns)
	return d, nil
}

func compareAttributes(a, b attribute) int {
	return cmp.Or(cmp.Compare(a.oid, b.oid), cmp.Compare(a.text, b.text), cmp.Compare(a.der, b.der))
}

// parseAttribute parses the attribute that s starts with. separator is the "," or "+" after it, or
// 0 at the end of s.
func parseAttribute(s string) (a attribute, separator byte, rest string, err error) {
	name, rest, found := strings.Cut(s, "=")
	name = strings.Trim(name, " ")
	if !found {
		return attribute{}, 0, "", fmt.Errorf(`%q is not an attribute; write type=value, such as CN=name`, name)
	}
	if a.oid, err = parseType(name); err != nil {
		return attribute{}, 0, "", err
	}
	rest = strings.TrimLeft(rest, " ")
	if strings.HasPrefix(rest, "#") {
		end := strings.IndexAny(rest, ",+")
		if end < 0 {
			end = len(rest)
		}
		a.text, a.der, err = parseHexValue(strings.TrimRight(rest[1:end], " "))
		rest = rest[end:]
	} else {
		a.text, rest, err = parseText(rest)
	}
	switch {
	case err != nil:
		return attribute{}, 0, "", fmt.Errorf("the value of %s: %w", name, err)
	case a.text == "" && a.der == "":
		return attribute{}, 0, "", fmt.Errorf("the value of %s is empty", name)
	case rest == "":
		return a, 0, "", nil
	}
	return a, rest[0], rest[1:], nil
}

// parseType returns the object identifier of an attribute type, RFC 4514 section 2.3.
func parseType(name string) (oid string, err error) {
	for _, t := range attributeTypes {
		if ascii.EqualFold(t.name, name) {
			return t.oid, nil
		}
	}
	dotted := name
	if len(name) > 4 && ascii.EqualFold(name[:4], "OID.") {
		dotted = name[4:]
	}
	if oid := contents(dotted); oid != "" {
		return oid, nil
	}
	return "", fmt.Errorf("unknown attribute type %q; any type can be written as its object identifier, such as 2.5.4.97", name)
}

// parseHexValue returns the value whose DER is written in digits, as text if the type is a string type.
// The name is then equal to a name with the same text in plain form.
func parseHexValue(digits string) (text, der string, err error) {
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return "", "", errors.New("expected pairs of hexadecimal digits after #; for the character # itself write \\#")
	}
	rest := cryptobyte.String(raw)
	var value cryptobyte.String
	if !rest.ReadAnyASN1Element(&value, nil) || !rest.Empty() {
		return "", "", errors.New("expected the DER of exactly one value after #")
	}
	if text, ok := decodeText(value); ok {
		return string(text), "", nil
	}
	return "", string(value), nil
}

// The characters that must be escaped anywhere in a value, and the characters that may be escaped (RFC
// 4514 section 3).
const (
	mustEscape = `"+,;<>\`
	mayEscape  = mustEscape + ` #=`
)

// parseText parses a value up to an unescaped "," or "+" or the end of s. rest begins with the
// separator.
func parseText(s string) (text, rest string, err error) {
	var b strings.Builder
	kept := 0 // length of b without unescaped spaces at its end
	for len(s) > 0 && s[0] != ',' && s[0] != '+' {
		c := s[0]
		switch {
		case c == '\\':
			if c, s, err = parseEscape(s[1:]); err != nil {
				return "", "", err
			}
			b.WriteByte(c)
			kept = b.Len()
			continue
		case c == 0 || strings.IndexByte(mustEscape, c) >= 0:
			return "", "", fmt.Errorf("%q must be escaped with a backslash", c)
		}
		b.WriteByte(c)
		if c != ' ' {
			kept = b.Len()
		}
		s = s[1:]
	}
	text = b.String()[:kept]
	if !utf8.ValidString(text) {
		return "", "", errors.New("not valid UTF-8")
	}
	return text, s, nil
}

// parseEscape parses the text after a backslash: one special character, or the two hexadecimal
// digits of a byte.
func parseEscape(s string) (c byte, rest string, err error) {
	switch {
	case s != "" && strings.IndexByte(mayEscape, s[0]) >= 0:
		return s[0], s[1:], nil
	case len(s) >= 2:
		if octet, err := hex.DecodeString(s[:2]); err == nil {
			return octet[0], s[2:], nil
		}
	}
	return 0, "", errors.New("a backslash escapes one of \"+,;<>\\ #= or two hexadecimal digits")
}

package certname

import (
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Names are compared on every request, so the DER is read in place by cryptobyte, without an
// allocation. Like encoding/asn1, cryptobyte refuses tag numbers above 30, indefinite lengths
// and lengths with needless bytes.

// The string types that cryptobyte has no names for, X.680 section 8.4.
const (
	numericString = asn1.Tag(18)
	visibleString = asn1.Tag(26)
	bmpString     = asn1.Tag(30)
)

// Attribute is an AttributeTypeAndValue, RFC 5280 section 4.1.2.4. The slices alias the DER that
// the attribute was read from, except for the text of a BMPString.
type Attribute struct {
	OID  []byte // DER contents octets of the type's object identifier
	Text []byte // the value in UTF-8, if it is of a string type and obeys the rules of that type
	DER  []byte // the whole DER of any other value; nil if Text is the value
}

// ReadAttribute reads the attribute that set starts with and advances set past the attribute. If ok is
// false, the content of set is undefined.
func ReadAttribute(set *cryptobyte.String) (a Attribute, ok bool) {
	var pair, oid, value cryptobyte.String
	if !set.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		!pair.ReadAnyASN1Element(&value, nil) || !pair.Empty() {
		return Attribute{}, false
	}
	a.OID = oid
	if text, ok := decodeText(value); ok {
		a.Text = text
	} else {
		a.DER = value
	}
	return a, true
}

// decodeText returns the text of a string type in UTF-8. ok is false for a value that breaks the rules
// of its own string type; callers then compare the DER. A T61String has a text only if all its
// characters are ASCII, because other programs disagree on the meaning of the other characters.
func decodeText(element cryptobyte.String) (text []byte, ok bool) {
	var content cryptobyte.String
	var tag asn1.Tag
	if !element.ReadAnyASN1(&content, &tag) {
		return nil, false
	}
	switch tag { //nolint:exhaustive // values of the other types have no text
	case asn1.UTF8String:
		return content, utf8.Valid(content)
	case numericString, asn1.PrintableString, asn1.T61String, asn1.IA5String, visibleString:
		for _, b := range content {
			if b >= utf8.RuneSelf {
				return nil, false
			}
		}
		return content, true
	case bmpString:
		for ; len(content) > 0; content = content[2:] {
			if len(content) == 1 || utf16.IsSurrogate(rune(content[0])<<8|rune(content[1])) {
				return nil, false
			}
			text = utf8.AppendRune(text, rune(content[0])<<8|rune(content[1]))
		}
		return text, true
	}
	return nil, false
}

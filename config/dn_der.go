package config

import (
	"unicode/utf16"
	"unicode/utf8"
)

// The DER of a name is read here and not by encoding/asn1, because it is compared on
// every request: this reads in place and allocates nothing. It takes less than that
// package does, never more.

// Tags of X.690 section 8, class and constructed bit included.
const (
	tagOID             = 0x06
	tagUTF8String      = 0x0c
	tagNumericString   = 0x12
	tagPrintableString = 0x13
	tagT61String       = 0x14
	tagIA5String       = 0x16
	tagVisibleString   = 0x1a
	tagBMPString       = 0x1e
	tagSequence        = 0x30
	tagSet             = 0x31
)

// derElement is one element of DER: full is all of it, content what the header is followed by.
type derElement struct {
	tag           byte
	content, full []byte
}

// readElement reads the element that der starts with and returns what follows it.
// Tag numbers above 30, indefinite lengths and lengths with needless bytes are
// refused.
func readElement(der []byte) (e derElement, rest []byte, ok bool) {
	if len(der) < 2 || der[0]&0x1f == 0x1f {
		return derElement{}, nil, false
	}
	header, length := 2, int(der[1])
	if length >= 0x80 {
		octets := length - 0x80
		header += octets
		if octets == 0 || octets > 3 || len(der) < header || der[2] == 0 { // 3 octets: 16 MiB
			return derElement{}, nil, false
		}
		length = 0
		for _, b := range der[2:header] {
			length = length<<8 | int(b)
		}
		if length < 0x80 {
			return derElement{}, nil, false
		}
	}
	end := header + length
	if len(der) < end {
		return derElement{}, nil, false
	}
	return derElement{tag: der[0], content: der[header:end], full: der[:end]}, der[end:], true
}

// derAttribute is an [attribute] that has not left the DER.
type derAttribute struct {
	oid, text, der []byte
}

// readAttribute reads the AttributeTypeAndValue (RFC 5280 section 4.1.2.4) that der
// starts with and returns what follows it.
func readAttribute(der []byte) (a derAttribute, rest []byte, ok bool) {
	pair, rest, ok := readElement(der)
	if !ok || pair.tag != tagSequence {
		return derAttribute{}, nil, false
	}
	oid, after, ok := readElement(pair.content)
	if !ok || oid.tag != tagOID {
		return derAttribute{}, nil, false
	}
	value, after, ok := readElement(after)
	if !ok || len(after) > 0 {
		return derAttribute{}, nil, false
	}
	a.oid = oid.content
	if text, ok := decodeText(value); ok {
		a.text = text
	} else {
		a.der = value.full
	}
	return a, rest, true
}

// AttributeText returns the text of the attribute value whose DER is der, in UTF-8; ok is
// false where it has none: it is of no string type, or breaks the rules of its own.
func AttributeText(der []byte) (text string, ok bool) {
	value, rest, ok := readElement(der)
	if !ok || len(rest) > 0 {
		return "", false
	}
	decoded, ok := decodeText(value)
	return string(decoded), ok
}

// decodeText returns the text of a string type in UTF-8. A value that breaks the
// rules of its own type has none and is compared by its DER. T61String counts while
// it is ASCII: readers differ on the rest.
func decodeText(e derElement) ([]byte, bool) {
	switch e.tag {
	case tagUTF8String:
		return e.content, utf8.Valid(e.content)
	case tagNumericString, tagPrintableString, tagT61String, tagIA5String, tagVisibleString:
		for _, b := range e.content {
			if b >= utf8.RuneSelf {
				return nil, false
			}
		}
		return e.content, true
	case tagBMPString:
		var text []byte
		for b := e.content; len(b) > 0; b = b[2:] {
			if len(b) == 1 || utf16.IsSurrogate(rune(b[0])<<8|rune(b[1])) {
				return nil, false
			}
			text = utf8.AppendRune(text, rune(b[0])<<8|rune(b[1]))
		}
		return text, true
	}
	return nil, false
}

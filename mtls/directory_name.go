package mtls

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/tallygate/tallygate/internal/certname"
)

// A directoryName is a distinguished name that is prepared for the comparison of RFC 5280 section
// 7.1. The comparison ignores case, repeated spaces and the string type.
type directoryName struct {
	rdns   []rdn
	emails []string // values of emailAddress attributes; "" for a value that is not a string
	nul    bool     // a value contains the character NUL
}

// An rdn is a relative distinguished name.
type rdn struct {
	der   string // the DER of all attributes
	types string // the types of the attributes, sorted
	text  string // the values of the attributes, prepared and sorted
	sure  bool   // all values are strings that every reader compares in the same way
}

// A position says where a name lies relative to a subtree.
type position int

const (
	outside position = iota
	inside
	uncertain // a value is not a string, or readers may compare it differently
)

// within returns the position of d relative to the subtree of base. d is inside the subtree if the
// first RDNs of d are the RDNs of base.
func (d directoryName) within(base directoryName) position {
	if len(base.rdns) > len(d.rdns) {
		return outside
	}
	result := inside
	for i, b := range base.rdns {
		switch r := d.rdns[i]; {
		case r.der == b.der:
		case r.types != b.types:
			return outside
		case !r.sure || !b.sure:
			result = uncertain
		case r.text != b.text:
			return outside
		}
	}
	return result
}

// readDirectoryName parses the DER of a Name, RFC 5280 section 4.1.2.4.
func readDirectoryName(der cryptobyte.String) (d directoryName, ok bool) {
	var sequence cryptobyte.String
	if !der.ReadASN1(&sequence, asn1.SEQUENCE) || !der.Empty() {
		return directoryName{}, false
	}
	for !sequence.Empty() {
		var set cryptobyte.String
		if !sequence.ReadASN1(&set, asn1.SET) || set.Empty() {
			return directoryName{}, false
		}
		r, ok := d.readRDN(set)
		if !ok {
			return directoryName{}, false
		}
		d.rdns = append(d.rdns, r)
	}
	return d, true
}

// oidEmailAddress is 1.2.840.113549.1.9.1, RFC 5280 appendix A.1, encoded.
var oidEmailAddress = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01}

// readRDN parses the attributes of an RDN and adds the email addresses among them to d.
func (d *directoryName) readRDN(set cryptobyte.String) (rdn, bool) {
	r := rdn{der: string(set), sure: true}
	var attributes [][2]string
	for !set.Empty() {
		attribute, ok := certname.ReadAttribute(&set)
		if !ok {
			return rdn{}, false
		}
		text, isText := string(attribute.Text), attribute.DER == nil
		if bytes.Equal(attribute.OID, oidEmailAddress) {
			d.emails = append(d.emails, text)
		}
		d.nul = d.nul || strings.ContainsRune(text, 0)
		prepared, sure := prepare(text)
		r.sure = r.sure && isText && sure
		attributes = append(attributes, [2]string{string(attribute.OID), prepared})
	}
	slices.SortFunc(attributes, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, a := range attributes {
		// The length before each value ensures that different lists have different texts.
		r.types += strconv.Itoa(len(a[0])) + ":" + a[0]
		r.text += strconv.Itoa(len(a[1])) + ":" + a[1]
	}
	return r, true
}

// prepare returns text prepared for comparison by RFC 4518: case folded (section 2.2), in
// normalization form KC (section 2.3), and with single spaces (section 2.6.1). sure is false if text
// has characters that the RFC removes or prohibits, because readers may compare such texts
// differently.
func prepare(text string) (prepared string, sure bool) {
	sure = true
	ascii := true
	for _, c := range text {
		switch {
		case c < 0x20 && (c < '\t' || c > '\r') || c == 0x7f: // control characters, such as NUL
			sure = false
		case c < 0x80:
		case unicode.In(c, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Variation_Selector), c == 0x34f, c == unicode.ReplacementChar, c == 0xfffc:
			sure = false
		case !unicode.IsGraphic(c) && !unicode.IsSpace(c): // this version of Unicode has not assigned the character
			sure = false
		default:
			ascii = false
		}
	}
	if ascii {
		text = strings.ToLower(text)
	} else {
		text = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
	}
	return strings.Join(strings.Fields(text), " "), sure
}

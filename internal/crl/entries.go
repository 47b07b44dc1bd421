package crl

// crypto/x509 takes 350 MB for a list of a million entries (T-CRL-07), and parses it before the signature
// is verified. So the entries are cut out of the DER, and only their serial numbers are kept.

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// sections are the parts of a list.
type sections struct {
	signed  []byte            // the DER that is signed
	head    []byte            // the DER of the list without its entries
	entries cryptobyte.String // nil if the list has no entries
}

// maxHeader bounds a list without its entries: names, extensions and the signature. crypto/x509 parses
// these bytes before the signature is verified, and the result takes 50 times their size: 50 * 64 KiB
// are 3.1 MiB.
const maxHeader = 64 << 10

// cutEntries separates the entries of a list from its other parts.
func cutEntries(der []byte) (*sections, error) {
	in := cryptobyte.String(der)
	var whole, signed, body cryptobyte.String
	if !in.ReadASN1(&whole, asn1.SEQUENCE) || !in.Empty() || !whole.ReadASN1Element(&signed, asn1.SEQUENCE) {
		return nil, errMalformed
	}
	p := &sections{signed: signed}
	if inner := signed; !inner.ReadASN1(&body, asn1.SEQUENCE) {
		return nil, errMalformed
	}
	before := body
	ok := body.SkipOptionalASN1(asn1.INTEGER) && body.SkipASN1(asn1.SEQUENCE) && body.SkipASN1(asn1.SEQUENCE) && skipTime(&body)
	if !ok {
		return nil, errMalformed
	}
	if body.PeekASN1Tag(asn1.UTCTime) || body.PeekASN1Tag(asn1.GeneralizedTime) {
		if !skipTime(&body) {
			return nil, errMalformed
		}
	}
	before = before[:len(before)-len(body)]
	if body.PeekASN1Tag(asn1.SEQUENCE) && !body.ReadASN1(&p.entries, asn1.SEQUENCE) {
		return nil, errMalformed
	}
	if body.PeekASN1Tag(asn1.SEQUENCE) || len(before)+len(body)+len(whole) > maxHeader {
		return nil, errMalformed // an error, because crypto/x509 would parse a second sequence of entries
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(before)
			b.AddBytes(body)
		})
		b.AddBytes(whole)
	})
	var err error
	p.head, err = b.Bytes()
	return p, err
}

func skipTime(s *cryptobyte.String) bool {
	return s.PeekASN1Tag(asn1.UTCTime) && s.SkipASN1(asn1.UTCTime) || s.SkipASN1(asn1.GeneralizedTime)
}

// serials returns the serial numbers in entries, at most limit.
func serials(entries cryptobyte.String, limit int) (map[serial]struct{}, error) {
	// The shortest entry, with a serial number of one octet, has 20 octets. The entries of
	// most authorities have 40.
	revoked := make(map[serial]struct{}, min(len(entries)/40, limit))
	for !entries.Empty() {
		var entry, extensions cryptobyte.String
		var number []byte
		if !entries.ReadASN1(&entry, asn1.SEQUENCE) || !entry.ReadASN1Integer(&number) || !skipTime(&entry) {
			return nil, errMalformed // a negative serial number is malformed, too
		}
		var s serial
		if len(number) > len(s) {
			return nil, errSerial
		}
		copy(s[len(s)-len(number):], number)
		if revoked[s] = struct{}{}; len(revoked) > limit {
			return nil, errManyEntries
		}
		if entry.Empty() {
			continue
		}
		if !entry.ReadASN1(&extensions, asn1.SEQUENCE) || !entry.Empty() {
			return nil, errMalformed
		}
		if err := checkEntry(extensions); err != nil {
			return nil, err
		}
	}
	return revoked, nil
}

// checkEntry returns an error for a critical extension that is not supported. An example is
// certificateIssuer, which makes an entry apply to a certificate of another authority. An entry is a
// revocation whatever its reason is, even certificateHold.
func checkEntry(extensions cryptobyte.String) error {
	for !extensions.Empty() {
		var extension, id cryptobyte.String
		critical := false
		if !extensions.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
			return errMalformed
		}
		if extension.PeekASN1Tag(asn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) {
			return errMalformed
		}
		if critical && !bytes.Equal(id, oidReason) {
			return errCritical
		}
	}
	return nil
}

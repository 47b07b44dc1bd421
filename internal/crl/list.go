package crl

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	encodingasn1 "encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// A signer is an authority as that which signs certificates and lists: its name and its
// key. Two with one name are two.
type signer struct{ name, key [sha256.Size]byte }

func signerOf(authority *x509.Certificate) signer {
	return signer{sha256.Sum256(authority.RawSubject), sha256.Sum256(authority.RawSubjectPublicKeyInfo)}
}

// A serial is the serial number of a certificate, of at most 20 octets (RFC 5280 section
// 4.1.2.2), with zeros before it.
type serial [20]byte

// serialOf returns the serial number of c; ok is false for one that is too long, which no
// list that is taken can hold.
func serialOf(c *x509.Certificate) (s serial, ok bool) {
	if c.SerialNumber.Sign() < 0 || c.SerialNumber.BitLen() > 8*len(s) {
		return serial{}, false
	}
	c.SerialNumber.FillBytes(s[:])
	return s, true
}

// A list is one revocation list, RFC 5280 section 5, whose signature has been verified. It
// does not change.
type list struct {
	signer           signer
	issuer           string   // the signer's name, as text
	number           *big.Int // CRL number; nil without one
	issued, next     time.Time
	users, authority bool     // which certificates it is about
	points           []string // the places that it is for, sorted; none: it is for all
	revoked          map[serial]struct{}
	sum              [sha256.Size]byte // of its DER
}

// The extensions that are understood.
var (
	oidDelta        = encodingasn1.ObjectIdentifier{2, 5, 29, 27} // RFC 5280 section 5.2.4
	oidDistribution = encodingasn1.ObjectIdentifier{2, 5, 29, 28} // section 5.2.5
	oidReason       = []byte{0x55, 0x1d, 0x15}                    // 2.5.29.21, section 5.3.1, as it is encoded
)

var (
	errGarbled  = errors.New("it is cut short or garbled")
	errDelta    = errors.New("it is a delta list, which says only what has changed; name the complete list")
	errIndirect = errors.New("it is an indirect list, which speaks for other authorities; name each authority's own list")
	errReasons  = errors.New("it lists some reasons for revocation only; name the complete list")
	errPlace    = errors.New("it is for the certificates of a place that is not a URI")
	errFuture   = errors.New("it is dated in the future")
	errNoNext   = errors.New("it does not say when its next update is")
	errCritical = errors.New("it holds a critical extension that is not understood")
	errSHA1     = errors.New("it is signed by SHA-1, for which others' texts can be made to fit")
	errForeign  = errors.New("neither an anchor nor among revocation.authorities")
	errSerial   = errors.New("it holds a serial number of more than 20 octets")
)

// splitPEM returns the lists in data: one in DER, or all of a PEM file, maxLists at most.
func splitPEM(data []byte) ([][]byte, error) {
	switch n := bytes.Count(data, []byte("-----BEGIN")); {
	case n == 0:
		return [][]byte{data}, nil
	case n > maxLists:
		return nil, errManyLists
	}
	blocks, err := pemfile.Blocks("", data)
	if err != nil {
		return nil, err
	}
	if len(blocks) == 0 {
		return nil, errGarbled
	}
	ders := make([][]byte, len(blocks))
	for i, b := range blocks {
		if b.Type != "X509 CRL" {
			return nil, fmt.Errorf("%s: expected only revocation lists, found a block of type %q", b.Position, b.Type)
		}
		ders[i] = b.Bytes
	}
	return ders, nil
}

// parseList returns the list in der, which one of the authorities must have signed and which
// may have so many entries at most. It keeps the serial numbers of the entries alone, without
// the objects that crypto/x509 would make of each: a million of them take 350 MB.
func parseList(der []byte, authorities []*x509.Certificate, most int) (*list, error) {
	sections, err := cutEntries(der)
	if err != nil {
		return nil, err
	}
	head, err := x509.ParseRevocationList(sections.head)
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	head.RawTBSRevocationList = sections.signed
	switch head.SignatureAlgorithm { //nolint:exhaustive // crypto/x509 takes these two for lists, and not for certificates
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		return nil, errSHA1
	}
	by, err := verifyList(head, authorities)
	if err != nil {
		return nil, err
	}
	l := &list{
		signer: signerOf(by), issuer: by.Subject.String(), number: head.Number,
		issued: head.ThisUpdate, next: head.NextUpdate, sum: sha256.Sum256(der),
	}
	switch {
	case l.next.IsZero():
		return nil, errNoNext
	case l.issued.After(time.Now().Add(maxClockSkew)): // it would keep the next ones out
		return nil, errFuture
	}
	if err := l.scope(head); err != nil {
		return nil, err
	}
	l.revoked, err = serials(sections.entries, most)
	return l, err
}

// maxClockSkew is how far an authority's clock may be ahead of ours.
const maxClockSkew = time.Hour

// verifyList returns the authority that signed head. Its error wraps errForeign when no
// authority has the name of the list's issuer.
func verifyList(head *x509.RevocationList, authorities []*x509.Certificate) (*x509.Certificate, error) {
	var refused error
	for _, a := range authorities {
		if !bytes.Equal(a.RawSubject, head.RawIssuer) {
			continue
		}
		if refused = head.CheckSignatureFrom(a); refused == nil {
			return a, nil
		}
	}
	if refused != nil {
		return nil, fmt.Errorf("its signature is not that of %s: %w", head.Issuer, refused)
	}
	return nil, fmt.Errorf("%q signed it, which is %w", access.Truncate(head.Issuer.String()), errForeign)
}

// scope sets which certificates l is about, and refuses what is not a complete list of the
// signer's own.
func (l *list) scope(head *x509.RevocationList) error {
	l.users, l.authority = true, true
	for _, e := range head.Extensions {
		var err error
		switch {
		case e.Id.Equal(oidDelta):
			err = errDelta
		case e.Id.Equal(oidDistribution):
			err = l.distribution(e.Value)
		case e.Critical:
			err = errCritical
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// distribution reads an IssuingDistributionPoint, RFC 5280 section 5.2.5.
func (l *list) distribution(value []byte) error {
	in, point := cryptobyte.String(value), cryptobyte.String{}
	if !in.ReadASN1(&point, asn1.SEQUENCE) || !in.Empty() {
		return errGarbled
	}
	for !point.Empty() {
		var member cryptobyte.String
		var tag asn1.Tag
		if !point.ReadAnyASN1(&member, &tag) {
			return errGarbled
		}
		if tag == asn1.Tag(0).ContextSpecific().Constructed() {
			if err := l.place(member); err != nil {
				return err
			}
			continue
		}
		if tag == asn1.Tag(3).ContextSpecific() {
			return errReasons
		}
		if len(member) != 1 { // all others are BOOLEAN
			return errGarbled
		}
		set := member[0] != 0
		switch tag { //nolint:exhaustive // these are of this type alone
		case asn1.Tag(1).ContextSpecific():
			l.authority = l.authority && !set // onlyContainsUserCerts
		case asn1.Tag(2).ContextSpecific():
			l.users = l.users && !set // onlyContainsCACerts
		case asn1.Tag(4).ContextSpecific():
			if set {
				return errIndirect
			}
		default: // onlyContainsAttributeCerts, or what is yet to be invented
			return errCritical
		}
	}
	return nil
}

// place reads the distributionPoint of one, in which URIs alone are understood, as they are
// in certificates.
func (l *list) place(point cryptobyte.String) error {
	var names cryptobyte.String
	if !point.ReadASN1(&names, asn1.Tag(0).ContextSpecific().Constructed()) || !point.Empty() {
		return errPlace
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag asn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return errGarbled
		}
		if tag == asn1.Tag(6).ContextSpecific() { // uniformResourceIdentifier
			l.points = append(l.points, string(name))
		}
	}
	if len(l.points) == 0 {
		return errPlace
	}
	slices.Sort(l.points)
	return nil
}

// sections are those of a list.
type sections struct {
	signed  []byte            // the DER that the signature is over
	head    []byte            // the whole list, but without entries
	entries cryptobyte.String // nil when there are none
}

// maxHeader bounds a list without its entries: names, extensions and the signature. They are
// read before anybody is known to have signed them, into fifty times their size.
const maxHeader = 64 << 10

// cutEntries takes the entries out of a list.
func cutEntries(der []byte) (*sections, error) {
	in := cryptobyte.String(der)
	var whole, signed, body cryptobyte.String
	if !in.ReadASN1(&whole, asn1.SEQUENCE) || !in.Empty() || !whole.ReadASN1Element(&signed, asn1.SEQUENCE) {
		return nil, errGarbled
	}
	p := &sections{signed: signed}
	if inner := signed; !inner.ReadASN1(&body, asn1.SEQUENCE) {
		return nil, errGarbled
	}
	before := body
	ok := body.SkipOptionalASN1(asn1.INTEGER) && body.SkipASN1(asn1.SEQUENCE) && body.SkipASN1(asn1.SEQUENCE) && skipTime(&body)
	if !ok {
		return nil, errGarbled
	}
	if body.PeekASN1Tag(asn1.UTCTime) || body.PeekASN1Tag(asn1.GeneralizedTime) {
		if !skipTime(&body) {
			return nil, errGarbled
		}
	}
	before = before[:len(before)-len(body)]
	if body.PeekASN1Tag(asn1.SEQUENCE) && !body.ReadASN1(&p.entries, asn1.SEQUENCE) {
		return nil, errGarbled
	}
	if body.PeekASN1Tag(asn1.SEQUENCE) || len(before)+len(body)+len(whole) > maxHeader {
		return nil, errGarbled // a second row of entries would be read in full below
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

// serials returns the serial numbers in entries, of which there may be so many at most.
func serials(entries cryptobyte.String, most int) (map[serial]struct{}, error) {
	// The shortest entry, with a serial number of one octet, has 20; those of most
	// authorities have 40.
	revoked := make(map[serial]struct{}, min(len(entries)/40, most))
	for !entries.Empty() {
		var entry, extensions cryptobyte.String
		var number []byte
		if !entries.ReadASN1(&entry, asn1.SEQUENCE) || !entry.ReadASN1Integer(&number) || !skipTime(&entry) {
			return nil, errGarbled // also when a serial number is below zero
		}
		var s serial
		if len(number) > len(s) {
			return nil, errSerial
		}
		copy(s[len(s)-len(number):], number)
		if revoked[s] = struct{}{}; len(revoked) > most {
			return nil, errManyEntries
		}
		if entry.Empty() {
			continue
		}
		if !entry.ReadASN1(&extensions, asn1.SEQUENCE) || !entry.Empty() {
			return nil, errGarbled
		}
		if err := checkEntry(extensions); err != nil {
			return nil, err
		}
	}
	return revoked, nil
}

// checkEntry refuses what makes an entry speak of another authority's certificate or
// something that is not understood. Every reason, a hold too, is a revocation.
func checkEntry(extensions cryptobyte.String) error {
	for !extensions.Empty() {
		var extension, id cryptobyte.String
		critical := false
		if !extensions.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
			return errGarbled
		}
		if extension.PeekASN1Tag(asn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) {
			return errGarbled
		}
		if critical && !bytes.Equal(id, oidReason) {
			return errCritical
		}
	}
	return nil
}

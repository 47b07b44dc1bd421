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

// A list is a revocation list (RFC 5280 section 5) with a verified signature. It is immutable.
type list struct {
	signer           signer
	issuer           string   // the name of the signer, as text
	number           *big.Int // the CRL number; nil if the list has no CRL number
	issued, next     time.Time
	users, authority bool     // users: the list covers leaves; authority: the list covers authorities
	points           []string // the URIs of the list's distribution point, sorted; nil for a list of all certificates
	revoked          map[serial]struct{}
	sum              [sha256.Size]byte // SHA-256 of the DER of the list
}

// The supported extensions.
var (
	oidDelta        = encodingasn1.ObjectIdentifier{2, 5, 29, 27} // RFC 5280 section 5.2.4
	oidDistribution = encodingasn1.ObjectIdentifier{2, 5, 29, 28} // RFC 5280 section 5.2.5
	oidReason       = []byte{0x55, 0x1d, 0x15}                    // DER contents octets of 2.5.29.21, RFC 5280 section 5.3.1
)

var (
	errMalformed = errors.New("the list is truncated or malformed")
	errDelta     = errors.New("the list is a delta list, which has only changes; configure the complete list")
	errIndirect  = errors.New("the list is an indirect list with entries of other authorities; configure each authority's own list")
	errReasons   = errors.New("the list covers only some reasons for revocation; configure the complete list")
	errNoURI     = errors.New("the distribution point of the list is not a URI")
	errFuture    = errors.New("the thisUpdate of the list is in the future")
	errNoNext    = errors.New("the list has no nextUpdate")
	errCritical  = errors.New("the list has a critical extension that is not supported")
	errSHA1      = errors.New("the list is signed with SHA-1, which is not collision resistant")
	errForeign   = errors.New("neither an anchor nor among revocation.authorities")
	errSerial    = errors.New("the list has a serial number of more than 20 octets")
)

// splitPEM returns the DER of the lists in data: one list in DER, or up to maxLists lists in PEM.
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
		return nil, errMalformed
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

// parseList parses and verifies the list in der, which must be signed by an authority in authorities.
// limit bounds the entries of the list. parseList keeps only the serial numbers, because crypto/x509
// would need 350 MB for the entries of a million revoked certificates.
func parseList(der []byte, authorities []*x509.Certificate, limit int) (*list, error) {
	sections, err := cutEntries(der)
	if err != nil {
		return nil, err
	}
	head, err := x509.ParseRevocationList(sections.head)
	if err != nil {
		return nil, fmt.Errorf("parsing the list: %w", err)
	}
	head.RawTBSRevocationList = sections.signed
	switch head.SignatureAlgorithm { //nolint:exhaustive // crypto/x509 accepts these two algorithms for lists, but not for certificates
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
	case l.issued.After(time.Now().Add(maxClockSkew)): // after a list from the future, rejectRollback would refuse all later lists
		return nil, errFuture
	}
	if err := l.scope(head); err != nil {
		return nil, err
	}
	l.revoked, err = serials(sections.entries, limit)
	return l, err
}

// maxClockSkew is how far the clock of an authority may be ahead.
const maxClockSkew = time.Hour

// verifyList returns the authority that signed head. If no authority has the name of the list's issuer,
// the error wraps errForeign.
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
		return nil, fmt.Errorf("the signature of the list is not by %s: %w", head.Issuer, refused)
	}
	return nil, fmt.Errorf("the issuer of the list is %q, which is %w", access.Truncate(head.Issuer.String()), errForeign)
}

// scope sets the scope of l from the extensions of head. The error says why the list is not a complete
// list of the signer's own certificates.
func (l *list) scope(head *x509.RevocationList) error {
	l.users, l.authority = true, true
	for _, e := range head.Extensions {
		var err error
		switch {
		case e.Id.Equal(oidDelta):
			err = errDelta
		case e.Id.Equal(oidDistribution):
			err = l.issuingDistributionPoint(e.Value)
		case e.Critical:
			err = errCritical
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// issuingDistributionPoint parses the extension of RFC 5280 section 5.2.5.
func (l *list) issuingDistributionPoint(value []byte) error {
	in, point := cryptobyte.String(value), cryptobyte.String{}
	if !in.ReadASN1(&point, asn1.SEQUENCE) || !in.Empty() {
		return errMalformed
	}
	for !point.Empty() {
		var member cryptobyte.String
		var tag asn1.Tag
		if !point.ReadAnyASN1(&member, &tag) {
			return errMalformed
		}
		if tag == asn1.Tag(0).ContextSpecific().Constructed() {
			if err := l.distributionPoint(member); err != nil {
				return err
			}
			continue
		}
		if tag == asn1.Tag(3).ContextSpecific() {
			return errReasons
		}
		if len(member) != 1 { // all other members have the type BOOLEAN
			return errMalformed
		}
		set := member[0] != 0
		switch tag { //nolint:exhaustive // the cases are the tags of IssuingDistributionPoint
		case asn1.Tag(1).ContextSpecific():
			l.authority = l.authority && !set // the member is onlyContainsUserCerts
		case asn1.Tag(2).ContextSpecific():
			l.users = l.users && !set // the member is onlyContainsCACerts
		case asn1.Tag(4).ContextSpecific():
			if set {
				return errIndirect
			}
		default: // the member is onlyContainsAttributeCerts or unknown
			return errCritical
		}
	}
	return nil
}

// distributionPoint parses a DistributionPointName. Only URIs are supported, as in certificates.
func (l *list) distributionPoint(point cryptobyte.String) error {
	var names cryptobyte.String
	if !point.ReadASN1(&names, asn1.Tag(0).ContextSpecific().Constructed()) || !point.Empty() {
		return errNoURI
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag asn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return errMalformed
		}
		if tag == asn1.Tag(6).ContextSpecific() { // the point is a uniformResourceIdentifier
			l.points = append(l.points, string(name))
		}
	}
	if len(l.points) == 0 {
		return errNoURI
	}
	slices.Sort(l.points)
	return nil
}

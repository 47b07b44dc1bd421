package mtls

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/weakkey"
)

// Keys and signatures of client certificates, of authorities between and of anchors are held
// to the rules of token keys: package weakkey, and no SHA-1 and no MD5. For RSA keys from
// 1024 bits a partner may have an exception, see exceptions.

// weakError says what is weak about a chain. Its text is fixed.
type weakError struct {
	where string
	fault error
}

func (e *weakError) Error() string { return e.where + " has " + e.fault.Error() }
func (e *weakError) Unwrap() error { return e.fault }

const (
	subjectLeaf      = "the certificate"
	subjectAuthority = "an authority above the certificate"
)

var errWeakSignature = errors.New("a signature by SHA-1 or MD5, which others can make")

// unfit returns what is weak about a way, the client's certificate first. Of what has no
// exceptions it tells before [weakkey.ErrShort].
func weakness(way []*x509.Certificate) error {
	var short error
	for i, c := range way {
		where := subjectAuthority
		if i == 0 {
			where = subjectLeaf
		}
		switch err := weakkey.Check(c.PublicKey); {
		case errors.Is(err, weakkey.ErrShort):
			short = &weakError{where, err}
		case err != nil:
			return &weakError{where, err}
		}
	}
	return short
}

// weaklySigned returns an error when a certificate of chain is signed by a broken hash. That
// of a certificate that is self-issued does not matter: it proves nothing. crypto/x509 finds
// no way by such a certificate, and does not say why.
func weakSignature(chain []*x509.Certificate) error {
	for i, c := range chain {
		switch c.SignatureAlgorithm { //nolint:exhaustive // these are the broken ones
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			switch {
			case string(c.RawIssuer) == string(c.RawSubject):
			case i == 0:
				return &weakError{subjectLeaf, errWeakSignature}
			default:
				return &weakError{subjectAuthority, errWeakSignature}
			}
		}
	}
	return nil
}

// exceptions returns until when ways to each anchor may hold RSA keys from 1024 bits. An
// anchor of such a partner must be no one else's, unless it is of a partner with the same
// date: the exception is for that partner's clients alone.
func rsa1024Exceptions(cfg *config.Config, t *Trust) (map[access.AnchorKey]time.Time, error) {
	short := make(map[access.AnchorKey]time.Time)
	for _, p := range cfg.Partners.List {
		if !p.InsecureRSA1024Until.IsZero() {
			for _, key := range t.anchors[p.Name] {
				short[key] = p.InsecureRSA1024Until.End()
			}
		}
	}
	if len(short) == 0 {
		return short, nil
	}
	var faults []error
	check := func(path, name string, until time.Time, keys []access.AnchorKey) {
		if slices.ContainsFunc(keys, func(key access.AnchorKey) bool { end, ok := short[key]; return ok && !end.Equal(until) }) {
			faults = append(faults, fmt.Errorf("%s: %s: an anchor of %s is one of a partner with another insecure_rsa_1024_until, or with one alone", cfg.Position(path), path, name))
		}
	}
	for i, p := range cfg.Partners.List {
		check(fmt.Sprintf("partners.list[%d].trust", i), string(p.Name), p.InsecureRSA1024Until.End(), t.anchors[p.Name])
	}
	if cfg.Issuer != nil {
		for i, s := range cfg.Issuer.ResourceServers {
			check(fmt.Sprintf("issuer.resource_servers[%d].trust", i), string(s.ClientID), time.Time{}, t.servers[s.ClientID])
		}
	}
	return short, errors.Join(faults...)
}

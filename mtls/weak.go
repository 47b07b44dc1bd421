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

// The keys and signatures of client certificates, intermediate authorities and anchors follow the
// rules for token keys: no key that package weakkey refuses, no SHA-1 and no MD5. A partner may have
// an exception for RSA keys of 1024 bits and more: see rsa1024Exceptions.

// A weakError is the weakness of a chain. Its text is fixed.
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

var errWeakSignature = errors.New("a signature with SHA-1 or MD5, which are not collision resistant")

// weakness returns the weakness of a chain, which begins with the leaf, or nil if the chain has no
// weakness. It returns [weakkey.ErrShort], for which there are exceptions, only if the chain has no
// other weakness.
func weakness(chain []*x509.Certificate) error {
	var short error
	for i, c := range chain {
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

// weakSignature returns an error if a certificate of chain is signed with a broken hash. Self-issued
// certificates are exempt, because their signature proves nothing. The check explains why crypto/x509
// found no chain: it refuses such signatures without saying so.
func weakSignature(chain []*x509.Certificate) error {
	for i, c := range chain {
		switch c.SignatureAlgorithm { //nolint:exhaustive // the algorithms with broken hashes
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

// rsa1024Exceptions returns, by anchor, until when chains may contain RSA keys of 1024 bits and more.
// An exception is only for the clients of one partner, so the anchor must not also be an anchor of a
// resource server, of the listener, or of a partner with another date.
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
			faults = append(faults, fmt.Errorf("%s: %s: an anchor of %s is also an anchor of a partner with a different insecure_rsa_1024_until", cfg.Position(path), path, name))
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

package mtls

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/tallygate/tallygate/internal/weakkey"
)

// The errors of verification have fixed texts, because the errors of crypto/x509 quote names from the
// chain and hold its certificates.
var (
	errAuthority   = errors.New("a certificate of an authority is not accepted as a client certificate")
	errUsage       = errors.New("the extended key usage of the certificate, or of an authority above it, excludes client authentication")
	errNoPath      = errors.New("the certificate chains to no anchor that is configured")
	errPathExpired = errors.New("an authority above the certificate is outside its validity period")
	errConstraint  = errors.New("an authority above the certificate is not allowed to issue it")
	errSerialSign  = errors.New("the certificate, or an authority above it, has a negative serial number, which RFC 5280 section 4.1.2.2 forbids; its authority must issue another")
	errNUL         = errors.New("a name of the certificate contains the character NUL")
	errOutside     = errors.New("a name of the certificate is outside the name constraints of an authority above it")
	errChain       = errors.New("the chain of the certificate cannot be verified")
)

// verifyChains verifies chain, which begins with the leaf.
func (t *Trust) verifyChains(chain []*x509.Certificate, now time.Time) *verification {
	leaf := chain[0]
	v := &verification{from: now, until: now.Add(verificationLifetime), serverOnly: !allowsUsage(leaf, x509.ExtKeyUsageClientAuth)}
	switch {
	case v.serverOnly && (!t.serverAuth || !allowsUsage(leaf, x509.ExtKeyUsageServerAuth)):
		v.err = errUsage
		return v
	case hasNegativeSerial(leaf):
		v.err = errSerialSign
		return v
	case namesContainNUL(leaf):
		v.err = errNUL
		return v
	}
	if leaf.IsCA {
		v.err = t.checkAuthorityLeaf(leaf)
		return v
	}
	chains, err := t.findChains(chain, now, x509.ExtKeyUsageClientAuth)
	if t.serverAuth && err != nil && errors.Is(chainError(err), errUsage) {
		chains, err = t.findChains(chain, now, x509.ExtKeyUsageServerAuth)
		v.serverOnly = true
	}
	if err != nil {
		t.explainNoChain(v, chain, err)
		return v
	}
	if chains, v.err = t.filterChains(chains, now, &v.until); v.err != nil {
		return v
	}
	for _, certificates := range chains[:min(len(chains), maxChains)] {
		key := anchorKeyOf(certificates[len(certificates)-1])
		if !slices.Contains(v.anchors, key) {
			v.anchors = append(v.anchors, key)
		}
		for _, c := range certificates {
			v.until = earlier(v.until, c.NotAfter)
		}
		if t.revocation != nil {
			v.chains = append(v.chains, verifiedChain{key, t.revocation.Chain(certificates)})
		}
	}
	return v
}

// maxChains bounds the chains of one certificate, because authorities of a partner can certify each
// other in hundreds of ways.
const maxChains = 16

// checkAuthorityLeaf decides about a client certificate with the CA bit, which many tools set in
// every self-signed certificate. Such a certificate is accepted only by its thumbprint, even if it is
// an anchor, so the verification has no anchors.
func (t *Trust) checkAuthorityLeaf(leaf *x509.Certificate) error {
	switch {
	case !t.selfSigned || !isSelfSigned(leaf):
		return errAuthority
	case len(withoutHandledExtensions(leaf).UnhandledCriticalExtensions) > 0: // RFC 5280 section 4.2
		return errChain
	}
	return weakness([]*x509.Certificate{leaf})
}

// findChains returns the chains to anchors that crypto/x509 accepts for usage.
func (t *Trust) findChains(chain []*x509.Certificate, now time.Time, usage x509.ExtKeyUsage) ([][]*x509.Certificate, error) {
	leaf, intermediates := withoutHandledExtensions(chain[0]), x509.NewCertPool()
	for _, c := range t.authorities.signedByAnchors(chain[1:]) {
		intermediates.AddCert(withoutHandledExtensions(c))
	}
	options := x509.VerifyOptions{
		Roots:         t.pool,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	}
	chains, err := leaf.Verify(options)
	if err != nil && len(chain) > 1 && errors.Is(chainError(err), errNoPath) {
		// An untrusted certificate for the key of an authority must not hide why the chain through
		// the authority's own certificate fails.
		options.Intermediates = nil
		if _, inner := leaf.Verify(options); inner != nil {
			err = inner
		}
	}
	return chains, err
}

// filterChains removes the chains that crypto/x509 accepts and the gate refuses. If no chain is left,
// the error says why the first chain was removed. filterChains sets until to the earliest time at
// which a remaining chain becomes invalid, if that time is earlier than until.
func (t *Trust) filterChains(chains [][]*x509.Certificate, now time.Time, until *time.Time) (_ [][]*x509.Certificate, refused error) {
	chains = slices.DeleteFunc(chains, func(certificates []*x509.Certificate) bool {
		excluded := slices.ContainsFunc(certificates, func(c *x509.Certificate) bool { return t.excluded[anchorKeyOf(c)] })
		err := weakness(certificates)
		switch end := t.rsa1024Until[anchorKeyOf(certificates[len(certificates)-1])]; {
		case excluded, t.crossesPartner(certificates):
			err = errConstraint
		case slices.ContainsFunc(certificates[:len(certificates)-1], hasNegativeSerial):
			err = errSerialSign
		case !satisfyConstraints(certificates):
			err = errOutside
		case errors.Is(err, weakkey.ErrShort) && now.Before(end):
			err, *until = nil, earlier(*until, end)
		}
		refused = cmp.Or(refused, err)
		return err != nil
	})
	if len(chains) > 0 {
		return chains, nil
	}
	return nil, refused
}

// explainNoChain sets the result in v for a chain that leads to no anchor. err is the error of
// crypto/x509.
func (t *Trust) explainNoChain(v *verification, chain []*x509.Certificate, err error) {
	if v.err = chainError(err); !errors.Is(v.err, errNoPath) {
		return
	}
	if weak := weakSignature(chain); weak != nil {
		v.err = weak
		return
	}
	if !t.selfSigned {
		return
	}
	v.err = weakness(chain[:1]) // with nil, the certificate is accepted by its thumbprint, without anchors
	if t.revocation != nil && !isSelfSigned(chain[0]) {
		v.chains = []verifiedChain{{certificates: t.revocation.Unchained(chain[0])}}
	}
}

// chainError maps err, an error of Certificate.Verify of crypto/x509, to an error of this package.
func chainError(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return errNoPath
	case !errors.As(err, &invalid):
		return errChain
	case invalid.Reason == x509.Expired:
		return errPathExpired
	case invalid.Reason == x509.IncompatibleUsage:
		return errUsage
	case invalid.Reason == x509.CANotAuthorizedForThisName:
		return errOutside
	default:
		return errConstraint
	}
}

// allowsUsage reports whether the extended key usage of leaf allows usage (RFC 5280 section
// 4.2.1.12). The check is needed because Verify checks the usage only if it finds a chain.
func allowsUsage(leaf *x509.Certificate, usage x509.ExtKeyUsage) bool {
	if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(leaf.ExtKeyUsage, usage) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// hasNegativeSerial reports whether c has a negative serial number. RFC 5280 section 4.1.2.2 forbids
// such numbers, and revocation lists cannot have them. crypto/x509 parses such a certificate only
// with GODEBUG=x509negativeserial=1, which package main sets.
func hasNegativeSerial(c *x509.Certificate) bool { return c.SerialNumber.Sign() < 0 }

// isSelfSigned reports whether c is signed by its own key. The key usage of c does not matter,
// because c issues no other certificate.
func isSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) &&
		c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

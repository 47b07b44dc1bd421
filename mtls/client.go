package mtls

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"time"
	"weak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/crl"
	"github.com/tallygate/tallygate/internal/weakkey"
)

// pathLifetime bounds how long a path search counts. A path's own expiry ends it
// earlier; this bound lets a chain that was not valid yet be found later.
const verificationLifetime = 5 * time.Minute

// A path is what was found out about one presented chain: a fact, not a verdict. It
// holds nothing that the chain says: strangers may make that large.
type verification struct {
	anchors []access.AnchorKey // that the chain leads to
	chains  []verifiedChain    // by which; none where certificates are not looked up in lists
	err     error              // why it leads to none that counts
	from    time.Time          // when it was searched
	until   time.Time          // when it must be searched again
}

func (p *verification) current(now time.Time) bool { return !now.Before(p.from) && now.Before(p.until) }

// A way is one of those that lead from a client certificate to an anchor.
type verifiedChain struct {
	anchor       access.AnchorKey
	certificates []crl.Certificate
}

// mostLinks bounds what is remembered of a path, 100 bytes for each: chains have 2 or 3.
const maxChainCertificates = 16

func (p *verification) certificates() (n int) {
	for _, w := range p.chains {
		n += len(w.certificates)
	}
	return n
}

// A connection is what is known of the certificate of one TLS connection, or of one that
// was passed on.
type connection struct {
	by           weak.Pointer[Trust] // whose path it is
	client       *access.Certificate
	verification *verification
}

// Client returns the client certificate of r, a request at the partners' listener, judged
// now: it was proved in r's own TLS handshake ([Trust.Peer]) or, where the configuration
// says so, passed on by a trusted front proxy, and by nobody else. It is within its
// validity period and chains to an anchor (or needs none, where self-signed certificates
// are taken). Errors wrap [*access.Denial] with NoCertificate, ExpiredCertificate,
// UntrustedCertificate, WrongUsage, WeakCertificate or, of a header, MalformedRequest. The identity is the leaf's
// alone: further certificates only help to find a path.
func (t *Trust) Client(r *http.Request) (*access.Certificate, error) {
	if t.frontProxies != nil {
		return t.clientFromHeader(r)
	}
	return t.Peer(r)
}

// Peer is Client for the certificate at the other end of r's connection, whatever r says
// (RFC 8705 section 3, which asks for the certificate of the TLS layer).
func (t *Trust) Peer(r *http.Request) (*access.Certificate, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, errNoClientCertificate
	}
	now := time.Now()
	leaf := r.TLS.PeerCertificates[0]
	if err := checkValidity(leaf, now); err != nil {
		return nil, err
	}
	return t.evaluate(t.connection(r.TLS, now), now)
}

// verdict judges c, whose leaf is valid now, by its path.
func (t *Trust) evaluate(c *connection, now time.Time) (*access.Certificate, error) {
	if c.verification.err != nil {
		return nil, denialOf(c.verification.err)
	}
	if t.revocation == nil {
		return c.client, nil
	}
	anchors, err := t.unrevokedAnchors(c.verification, now)
	if err != nil {
		return nil, err
	}
	if len(anchors) < len(c.verification.anchors) { // an authority on one of the ways was revoked
		return &access.Certificate{Leaf: c.client.Leaf, Thumbprint: c.client.Thumbprint, Anchors: anchors}, nil
	}
	return c.client, nil
}

// judge returns nil when a connection whose client showed chain may be used now.
func (t *Trust) checkConnection(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errNoClientCertificate
	}
	if err := checkValidity(chain[0], now); err != nil {
		return err
	}
	p := t.verification(chain, now)
	if p.err != nil {
		return denialOf(p.err)
	}
	if t.revocation != nil {
		_, err := t.unrevokedAnchors(p, now)
		return err
	}
	return nil
}

// refusal returns the denial for a chain that leads nowhere because of err.
func denialOf(err error) *access.Denial {
	reason := access.UntrustedCertificate
	if errors.Is(err, errUsage) || errors.Is(err, errAuthority) {
		reason = access.WrongUsage
	}
	var weak *weakError
	if errors.As(err, &weak) {
		reason = access.WeakCertificate
	}
	return &access.Denial{Reason: reason, Err: err}
}

var errNoClientCertificate = &access.Denial{Reason: access.NoCertificate}

// valid returns nil when now lies within leaf's validity period.
func checkValidity(leaf *x509.Certificate, now time.Time) error {
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return &access.Denial{Reason: access.ExpiredCertificate, Err: fmt.Errorf(
			"certificate %s is valid from %s to %s", access.ThumbprintOf(leaf), leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))}
	}
	return nil
}

// connection returns what is known of the connection with this state, which net/http
// shares between its requests: the thumbprint and the path are worked out once for
// each connection, not for each request. The state is held weakly, so that what is
// known of a connection goes when the connection does.
func (t *Trust) connection(state *tls.ConnectionState, now time.Time) *connection {
	key := weak.Make(state)
	if known, ok := t.connections.Load(key); ok {
		if c := known.(*connection); c.by == t.self && c.verification.current(now) {
			return c
		}
	}
	c := t.newConnection(state.PeerCertificates, now)
	connections := t.connections
	if _, known := connections.Swap(key, c); !known {
		runtime.AddCleanup(state, func(key weak.Pointer[tls.ConnectionState]) { connections.Delete(key) }, key)
	}
	return c
}

// learn finds out what there is to know of a chain that was shown.
func (t *Trust) newConnection(chain []*x509.Certificate, now time.Time) *connection {
	p := t.verification(chain, now)
	return &connection{by: t.self, verification: p, client: &access.Certificate{
		Leaf: chain[0], Thumbprint: access.ThumbprintOf(chain[0]), Anchors: p.anchors,
	}}
}

// path returns what is known of chain, searching if that is nothing or too old. The
// key covers the whole chain, so that nobody's extra certificates change what is known
// of another's. Only a chain that leads to an anchor is remembered beyond its own
// connection: of the others, strangers can make as many as they like.
func (t *Trust) verification(chain []*x509.Certificate, now time.Time) *verification {
	key := digest(chain)
	if known, ok := t.verifications.Get(key); ok && known.current(now) {
		return known
	}
	found := t.verifyChains(chain, now)
	if len(found.anchors) > 0 && found.certificates() <= maxChainCertificates {
		t.verifications.Add(key, found, found.owner(), found.bytes(), found.until)
	}
	return found
}

func digest(chain []*x509.Certificate) [sha256.Size]byte {
	// Each certificate is DER, which says its own length: no two chains have the
	// same concatenation.
	h := sha256.New()
	for _, c := range chain {
		h.Write(c.Raw)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Why a chain leads nowhere. The texts are fixed: those of crypto/x509 quote names
// from the chain, and its errors hold the certificates.
var (
	errAuthority   = errors.New("the certificate of an authority is not a client certificate")
	errUsage       = errors.New("the certificate, or an authority above it, may not be used for clients")
	errNoPath      = errors.New("the certificate chains to no anchor that is configured")
	errPathExpired = errors.New("an authority above the certificate is outside its validity period")
	errConstraint  = errors.New("an authority above the certificate may not vouch for it")
	errSerialSign  = errors.New("the certificate, or an authority above it, has a negative serial number, which RFC 5280 section 4.1.2.2 forbids; its authority must issue another")
	errNUL         = errors.New("a name of the certificate holds the character NUL")
	errOutside     = errors.New("a name of the certificate is outside the name constraints of an authority above it")
	errChain       = errors.New("the chain of the certificate does not verify")
)

// forClients reports whether leaf may be a client certificate: one that lists extended
// key usages must list that one (RFC 5280 section 4.2.1.12). Verify checks it only
// where there is a path.
func allowsClientAuth(leaf *x509.Certificate) bool {
	if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// negative reports whether c has a negative serial number. Authorities MUST NOT give one,
// and revocation lists cannot name it (RFC 5280 section 4.1.2.2). crypto/x509 parses c only
// under GODEBUG=x509negativeserial=1, which package main sets.
func hasNegativeSerial(c *x509.Certificate) bool { return c.SerialNumber.Sign() < 0 }

// isSelfSigned reports whether cert is signed by its own key. What the certificate says
// its key may be used for does not matter: it vouches for nobody else.
func isSelfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) &&
		cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// cause sums up why Verify found no path.
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

// search finds out where chain leads.
func (t *Trust) verifyChains(chain []*x509.Certificate, now time.Time) *verification {
	leaf := chain[0]
	found := &verification{from: now, until: now.Add(verificationLifetime)}
	switch {
	case !allowsClientAuth(leaf):
		found.err = errUsage
		return found
	case hasNegativeSerial(leaf):
		found.err = errSerialSign
		return found
	case namesContainNUL(leaf):
		found.err = errNUL
		return found
	}
	if leaf.IsCA {
		// Many tools set the CA bit in every self-signed certificate. It counts by its
		// thumbprint alone, as one that chains to nothing, even if it is an anchor: so
		// it gets no anchors, and there is no path to search.
		switch {
		case !t.selfSigned || !isSelfSigned(leaf):
			found.err = errAuthority
		case len(withoutHandledExtensions(leaf).UnhandledCriticalExtensions) > 0: // RFC 5280 section 4.2
			found.err = errChain
		default:
			found.err = weakness(chain[:1])
		}
		return found
	}
	ways, err := t.findChains(chain, now)
	if err != nil {
		t.explainNoChain(found, chain, err)
		return found
	}
	if ways, found.err = t.filterChains(ways, now, &found.until); found.err != nil {
		return found
	}
	for _, certificates := range ways[:min(len(ways), maxChains)] {
		key := anchorKeyOf(certificates[len(certificates)-1])
		if !slices.Contains(found.anchors, key) {
			found.anchors = append(found.anchors, key)
		}
		for _, c := range certificates {
			found.until = earlier(found.until, c.NotAfter)
		}
		if t.revocation != nil {
			found.chains = append(found.chains, verifiedChain{key, t.revocation.Chain(certificates)})
		}
	}
	return found
}

// ways returns those by which chain leads to an anchor, as far as crypto/x509 tells.
func (t *Trust) findChains(chain []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	leaf, intermediates := withoutHandledExtensions(chain[0]), x509.NewCertPool()
	for _, c := range t.authorities.signedByAnchors(chain[1:]) {
		intermediates.AddCert(withoutHandledExtensions(c))
	}
	options := x509.VerifyOptions{
		Roots:         t.pool,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	ways, err := leaf.Verify(options)
	if err != nil && len(chain) > 1 && errors.Is(chainError(err), errNoPath) {
		// A stranger's certificate for an authority's key must not hide what is wrong
		// with the path through the authority's own.
		options.Intermediates = nil
		if _, inner := leaf.Verify(options); inner != nil {
			err = inner
		}
	}
	return ways, err
}

// leadNowhere sets what found says of a chain without a way to an anchor, because of err.
func (t *Trust) explainNoChain(found *verification, chain []*x509.Certificate, err error) {
	if found.err = chainError(err); !errors.Is(found.err, errNoPath) {
		return
	}
	if weak := weakSignature(chain); weak != nil {
		found.err = weak
		return
	}
	if !t.selfSigned {
		return
	}
	found.err = weakness(chain[:1]) // with no anchors, it counts by its thumbprint alone
	if t.revocation != nil && !isSelfSigned(chain[0]) {
		found.chains = []verifiedChain{{certificates: t.revocation.Unchained(chain[0])}}
	}
}

// sift returns the ways that count of those that crypto/x509 found. Where none does, the
// error says why. until is brought forward to when one of them stops counting.
func (t *Trust) filterChains(ways [][]*x509.Certificate, now time.Time, until *time.Time) (_ [][]*x509.Certificate, refused error) {
	ways = slices.DeleteFunc(ways, func(certificates []*x509.Certificate) bool {
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
	if len(ways) > 0 {
		return ways, nil
	}
	return nil, refused
}

// mostWays bounds the ways that a chain may lead by: somebody's authorities can certify
// each other in hundreds.
const maxChains = 16

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

package mtls

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"
	"weak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/crl"
)

// verificationLifetime bounds how long a verification is used. A verification ends earlier if a
// certificate in the chain expires. Because of the bound, the gate accepts a chain soon after the
// chain becomes valid.
const verificationLifetime = 5 * time.Minute

// A verification is the result of verifying one presented chain: a fact, not a verdict. It holds no
// bytes of the chain, because untrusted clients could make the chain large.
type verification struct {
	anchors []access.AnchorKey // the anchors that the chain leads to
	chains  []verifiedChain    // the chains to check for revocation; nil without revocation lists
	err     error              // why the chain leads to no anchor
	// serverOnly says that the usages of the chain allow server authentication and not client
	// authentication. It is set only where Trust.serverAuth accepts such certificates.
	serverOnly bool
	from       time.Time // the time of the verification
	until      time.Time // the chain must be verified again at this time
}

// current reports whether v may be used at now. now must not be before from either, because the clock
// may have been set back.
func (v *verification) current(now time.Time) bool { return !now.Before(v.from) && now.Before(v.until) }

// A verifiedChain is a chain from a client certificate to an anchor.
type verifiedChain struct {
	anchor       access.AnchorKey
	certificates []crl.Certificate
}

// maxChainCertificates bounds the certificates of a cached verification. A certificate takes 100
// bytes. Chains in use have 2 or 3 certificates.
const maxChainCertificates = 16

// certificates returns how many certificates the chains of v have.
func (v *verification) certificates() (n int) {
	for _, c := range v.chains {
		n += len(c.certificates)
	}
	return n
}

// A connection is the client certificate of a TLS connection, or of a header, and its verification.
type connection struct {
	by           weak.Pointer[Trust] // the Trust that verified the certificate
	client       *access.Certificate
	verification *verification
}

// Client returns the client certificate of r, a request at the partners' listener, checked now. The
// certificate comes from r's TLS handshake ([Trust.Peer]) or, if the configuration says so, from a
// header of a trusted front proxy (RFC 9440). It is within its validity period and chains to an
// anchor; if self-signed certificates are enabled, it need not chain to an anchor. Errors wrap
// [*access.Denial] with NoCertificate, ExpiredCertificate, UntrustedCertificate, WrongUsage,
// WeakCertificate, RevokedCertificate, RevocationUnknown or, for a header, MalformedRequest. Only the
// leaf identifies the client; further certificates help to find a chain. The caller must refuse a
// certificate with ServerOnly for an application that does not accept it.
func (t *Trust) Client(r *http.Request) (*access.Certificate, error) {
	if t.frontProxies != nil {
		return t.clientFromHeader(r)
	}
	return t.Peer(r)
}

// Peer returns the same as [Trust.Client], but always for the certificate of r's TLS connection and
// never for a header of r. RFC 8705 section 3 binds tokens to the certificate of the TLS layer.
func (t *Trust) Peer(r *http.Request) (*access.Certificate, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, errNoClientCertificate
	}
	now := t.now()
	leaf := r.TLS.PeerCertificates[0]
	if err := checkValidity(leaf, now); err != nil {
		return nil, err
	}
	return t.evaluate(t.connection(r.TLS, now), now)
}

// evaluate decides about c by the verification of c, the revocation lists and the revocations of an issuer. The caller must have
// checked the validity period of the leaf.
func (t *Trust) evaluate(c *connection, now time.Time) (*access.Certificate, error) {
	if c.verification.err != nil {
		return nil, denialOf(c.verification.err)
	}
	if t.revocations != nil && t.revocations.Certificate(c.client.Thumbprint) {
		return nil, errRevokedThumbprint
	}
	if t.revocation == nil {
		return c.client, nil
	}
	anchors, err := t.unrevokedAnchors(c.verification, now)
	if err != nil {
		return nil, err
	}
	if len(anchors) < len(c.verification.anchors) { // a chain contains a revoked authority
		client := *c.client
		client.Anchors = anchors
		return &client, nil
	}
	return c.client, nil
}

// checkConnection returns nil if a client that presented chain may use the connection now.
func (t *Trust) checkConnection(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errNoClientCertificate
	}
	if err := checkValidity(chain[0], now); err != nil {
		return err
	}
	v := t.verification(chain, now)
	if v.err != nil {
		return denialOf(v.err)
	}
	if t.revocations != nil && t.revocations.Certificate(access.ThumbprintOf(chain[0])) {
		return errRevokedThumbprint
	}
	if t.revocation != nil {
		_, err := t.unrevokedAnchors(v, now)
		return err
	}
	return nil
}

// denialOf returns the denial for a chain that failed to verify with err.
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

// checkValidity returns nil if now lies within leaf's validity period.
func checkValidity(leaf *x509.Certificate, now time.Time) error {
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return &access.Denial{Reason: access.ExpiredCertificate, Err: fmt.Errorf(
			"certificate %s is valid from %s to %s", access.ThumbprintOf(leaf), leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))}
	}
	return nil
}

// connection returns the certificate and verification for state. The servers share state between the
// requests of a connection, so both are computed once for each connection. The map has a weak pointer
// to state: the entry is deleted when the connection has ended.
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

// newConnection returns a connection for chain, which the client presented.
func (t *Trust) newConnection(chain []*x509.Certificate, now time.Time) *connection {
	v := t.verification(chain, now)
	client := access.NewCertificate(chain[0])
	client.Anchors, client.ServerOnly = v.anchors, v.serverOnly
	return &connection{by: t.self, verification: v, client: client}
}

// verification returns the cached verification of chain, or verifies the chain. The cache key covers
// the whole chain, so that extra certificates of one client do not change the result for another
// client. Only chains that lead to an anchor are cached, because untrusted clients can make any
// number of other chains.
func (t *Trust) verification(chain []*x509.Certificate, now time.Time) *verification {
	key := digest(chain)
	if known, ok := t.verifications.Get(key); ok && known.current(now) {
		return known
	}
	v := t.verifyChains(chain, now)
	if len(v.anchors) > 0 && v.certificates() <= maxChainCertificates {
		t.verifications.Add(key, v, v.owner(), v.bytes(), v.until)
	}
	return v
}

func digest(chain []*x509.Certificate) [sha256.Size]byte {
	// The hash needs no separators: DER includes the length of each certificate, so no two chains
	// have the same concatenation.
	h := sha256.New()
	for _, c := range chain {
		h.Write(c.Raw)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

package access

import (
	"crypto/x509"
	"slices"
	"time"
)

// Unchecked holds the claims of a token whose origin is verified and whose other checks are still to
// come: the token may have expired, be meant for another audience, or be bound to another
// certificate. An Unchecked holds facts and no decision, so it may be cached. Concurrent requests
// share a cached Unchecked, so no code may change its fields.
type Unchecked struct {
	Server       string       // configured name of the authorization server that issued the token
	Issuer       string       // iss
	Subject      string       // sub
	ClientID     string       // client_id, RFC 8693 section 4.3; "" when absent
	TokenID      string       // jti; "" when absent
	Audience     []string     // aud
	Scopes       []string     // scope, split at spaces, RFC 6749 section 3.3; nil when absent
	Expires      time.Time    // exp
	NotBefore    time.Time    // nbf; zero when absent
	IssuedAt     time.Time    // iat; zero when absent
	Confirmation Confirmation // cnf
}

// Claims holds the claims of a token that passed every check. Only package validate converts an
// [Unchecked] to Claims, and only after its last check, the check of the binding; a test enforces
// this. The zero Claims names no client, so no access is granted to it.
type Claims Unchecked

// A Confirmation is the cnf claim (RFC 7800 section 3.1), which says what a token is bound to: a
// certificate, a key, or both. The zero Confirmation means that the token has no cnf. If a member is
// malformed or unknown, both thumbprints are zero.
type Confirmation struct {
	Present    bool       // the token has a cnf of any form
	Thumbprint Thumbprint // x5t#S256, RFC 8705 section 3.1; zero when absent
	Key        Thumbprint // jkt, RFC 9449 section 6.1; zero when absent
}

// A Certificate is a client certificate that package mtls has checked against the current anchors.
type Certificate struct {
	Leaf       *x509.Certificate
	Thumbprint Thumbprint
	// Anchors are the keys of the trust anchors that Leaf chains to. Anchors is empty for a
	// certificate without a chain, which mtls accepts only where self-signed certificates are
	// configured.
	Anchors []AnchorKey
	// ServerOnly says that the extended key usage of Leaf, or of an authority above it, allows server
	// authentication and not client authentication (RFC 5280 section 4.2.1.12). mtls accepts such a
	// certificate if any application is configured to accept it. Code that identifies an application
	// by the certificate must check that this application is configured to accept it.
	ServerOnly bool

	text string // Thumbprint.String(); "" if the Certificate was not made by NewCertificate
}

// NewCertificate returns a Certificate with leaf and its thumbprint, without anchors.
func NewCertificate(leaf *x509.Certificate) *Certificate {
	thumbprint := ThumbprintOf(leaf)
	return &Certificate{Leaf: leaf, Thumbprint: thumbprint, text: thumbprint.String()}
}

// ThumbprintText returns Thumbprint.String(). For a Certificate of NewCertificate it costs nothing, because the
// text is in the identity headers of every request.
func (c *Certificate) ThumbprintText() string {
	if c.text == "" {
		return c.Thumbprint.String()
	}
	return c.text
}

// ChainsTo reports whether c chains to an anchor in anchors. It returns false for a nil Certificate
// and for no anchors.
func (c *Certificate) ChainsTo(anchors []AnchorKey) bool {
	if c == nil {
		return false
	}
	for _, a := range c.Anchors {
		if slices.Contains(anchors, a) {
			return true
		}
	}
	return false
}

// An AnchorKey is the SHA-256 of a trust anchor's SubjectPublicKeyInfo. Two authorities with the
// same name are two anchors; an authority whose certificate is reissued with the same key stays
// one anchor.
type AnchorKey [32]byte

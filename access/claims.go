package access

import (
	"crypto/x509"
	"slices"
	"time"
)

// Unchecked is what a token says, verified to come from its authorization server
// but not yet judged: it may have expired, be meant for somebody else, or be
// bound to another certificate. It is safe to cache, for it is a fact and no
// verdict. Values are shared between requests and must not be changed.
type Unchecked struct {
	Server       string       // configured name of the authorization server that vouched for it
	Issuer       string       // iss
	Subject      string       // sub
	ClientID     string       // client_id, RFC 8693 section 4.3; "" when the token has none
	TokenID      string       // jti; "" when the token has none
	Audience     []string     // aud
	Scopes       []string     // scope, split at spaces, RFC 6749 section 3.3; nil when the token says nothing of it
	Expires      time.Time    // exp
	NotBefore    time.Time    // nbf; zero when the token has none
	IssuedAt     time.Time    // iat; zero when the token has none
	Confirmation Confirmation // cnf
}

// Claims is what a checked token says of the caller. Only package validate makes
// one, from an [Unchecked] whose every check passed, the binding last; a test
// holds the tree to that. The zero Claims names nobody and is granted nothing.
type Claims Unchecked

// A Confirmation is the cnf member of a token (RFC 7800 section 3.1), as far as
// it concerns certificates. The zero Confirmation says that the token has none.
type Confirmation struct {
	Present    bool       // the token has a cnf member, of whatever form
	Thumbprint Thumbprint // x5t#S256, RFC 8705 section 3.1; zero when absent, malformed or beside another member
}

// A Certificate is the client certificate of a connection as package mtls judged
// it against the anchors in force.
type Certificate struct {
	Leaf       *x509.Certificate
	Thumbprint Thumbprint
	// Anchors names, by key, the trust anchors that Leaf chains to. It is empty
	// for a certificate that chains to nothing, which mtls lets through only
	// where self-signed certificates are taken.
	Anchors []AnchorKey
}

// ChainsTo reports whether c chains to one of anchors. A nil Certificate and an
// empty list chain to nothing.
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

// An AnchorKey names a trust anchor by the SHA-256 of its SubjectPublicKeyInfo.
// Two authorities that share a name are two anchors; one authority whose
// certificate was reissued over the same key is one.
type AnchorKey [32]byte

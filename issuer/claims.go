package issuer

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// claims are the claims of an access token (RFC 9068 section 2.2). They are the payload of a JWT and
// the stored record of an opaque token, and introspection responses are made from them.
type claims struct {
	Issuer       string        `json:"iss"`
	Subject      string        `json:"sub"`
	Audience     []string      `json:"aud"`
	Expires      int64         `json:"exp"` // Unix seconds
	IssuedAt     int64         `json:"iat"` // Unix seconds
	ID           string        `json:"jti"`
	ClientID     string        `json:"client_id"`
	Scope        string        `json:"scope,omitempty"`
	Confirmation *confirmation `json:"cnf,omitempty"` // nil for an unbound token

	// Others are the claims that the configuration and rules add. No name in Others is the name of a
	// field above.
	Others map[string]any `json:",embed"`
}

// confirmation binds a token to a certificate (RFC 8705 section 3.1), to a key (RFC 9449 section
// 6.1), or to both.
type confirmation struct {
	Thumbprint string `json:"x5t#S256,omitempty"`
	Key        string `json:"jkt,omitempty"`
	// Others are confirmation methods that the issuer does not check. The issuer writes no such
	// methods. A stored record with such a method matches no certificate and no key.
	Others map[string]any `json:",embed"`
}

// MarshalJSON writes c as one object. It is needed because encoding/json, which writes introspection
// responses, ignores the option embed and would write a member named Others.
func (c confirmation) MarshalJSON() ([]byte, error) {
	type plain confirmation
	return json.Marshal(plain(c), json.Deterministic(true))
}

// thumbprint returns the x5t#S256 that the token is bound to, or "" for an unbound token.
func (c *claims) thumbprint() string {
	if c.Confirmation == nil {
		return ""
	}
	return c.Confirmation.Thumbprint
}

// keyBound reports whether the token is bound to a key.
func (c *claims) keyBound() bool { return c.Confirmation != nil && c.Confirmation.Key != "" }

// tokenType returns the token_type of c: DPoP for a token that is bound to a key (RFC 9449 section
// 5), and Bearer for every other token, including a token that is bound only to a certificate (RFC
// 8705 section 3).
func (c *claims) tokenType() string {
	if c.keyBound() {
		return "DPoP"
	}
	return "Bearer"
}

// MarshalJSON writes c as one object.
func (c claims) MarshalJSON() ([]byte, error) {
	type plain claims
	return json.Marshal(plain(c), json.Deterministic(true))
}

// UnmarshalJSON reads one object. A repeated member is an error.
func (c *claims) UnmarshalJSON(text []byte) error {
	type plain claims
	return json.Unmarshal(text, (*plain)(c))
}

// GetExpirationTime returns exp.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.Expires, 0)), nil
}

// GetIssuedAt returns iat.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.IssuedAt, 0)), nil
}

// GetNotBefore returns nil, because tokens of this issuer have no nbf.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer returns iss.
func (c *claims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject returns sub.
func (c *claims) GetSubject() (string, error) { return c.Subject, nil }

// GetAudience returns aud.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return c.Audience, nil }

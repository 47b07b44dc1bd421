package issuer

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// claims is what an access token says, RFC 9068 section 2.2: the payload of a JWT, the
// record of an opaque token, and the answer of an introspection.
type claims struct {
	Issuer       string        `json:"iss"`
	Subject      string        `json:"sub"`
	Audience     []string      `json:"aud"`
	Expires      int64         `json:"exp"` // Unix seconds
	IssuedAt     int64         `json:"iat"` // Unix seconds
	ID           string        `json:"jti"`
	ClientID     string        `json:"client_id"`
	Scope        string        `json:"scope,omitempty"`
	Confirmation *confirmation `json:"cnf,omitempty"` // nil: the token is not bound

	// Others are those that the configuration adds. None has a name from above.
	Others map[string]any `json:",embed"`
}

// confirmation binds a token to a certificate, RFC 8705 section 3.1.
type confirmation struct {
	Thumbprint string `json:"x5t#S256"`
	// Others are bindings that are not checked here. The issuer makes none; a record of the
	// store that has some counts nowhere.
	Others map[string]any `json:",embed"`
}

// MarshalJSON writes c as one object. Without it encoding/json, which writes introspection
// answers, would know nothing of embed and write a member named Others.
func (c confirmation) MarshalJSON() ([]byte, error) {
	type plain confirmation
	return json.Marshal(plain(c), json.Deterministic(true))
}

// thumbprint returns what the token is bound to, "" for nothing.
func (c *claims) thumbprint() string {
	if c.Confirmation == nil {
		return ""
	}
	return c.Confirmation.Thumbprint
}

// MarshalJSON writes c as one object.
func (c claims) MarshalJSON() ([]byte, error) {
	type plain claims
	return json.Marshal(plain(c), json.Deterministic(true))
}

// UnmarshalJSON reads one object, in which no name occurs twice.
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

// GetNotBefore returns nil: our tokens have no nbf.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer returns iss.
func (c *claims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject returns sub.
func (c *claims) GetSubject() (string, error) { return c.Subject, nil }

// GetAudience returns aud.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return c.Audience, nil }

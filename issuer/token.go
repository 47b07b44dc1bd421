package issuer

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// clientCredentials is the one grant type, RFC 6749 section 4.4.
const clientCredentials = "client_credentials"

// claims is the payload of an access token, RFC 9068 section 2.2.
type claims struct {
	jwt.RegisteredClaims
	ClientID     string       `json:"client_id"`
	Scope        string       `json:"scope,omitempty"`
	Confirmation confirmation `json:"cnf"` // always: there are no unbound tokens
}

// confirmation binds a token to a certificate, RFC 8705 section 3.1.
type confirmation struct {
	Thumbprint string `json:"x5t#S256"`
}

// A grant is a token and what its client is told of it, RFC 6749 section 5.1.
type grant struct {
	Token     string `json:"access_token"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"` // seconds
	Scope     string `json:"scope,omitempty"`

	id string // jti
}

// serveToken is the token endpoint. It answers, logs and counts in one place.
func (i *Issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	c, err := i.admit(r)
	var g grant
	if err == nil {
		g, err = i.grant(c)
	}
	attributes := append(c.attributes(err), slog.String("remote_address", r.RemoteAddr))
	if err != nil {
		f := faultOf(err)
		i.metrics.errors.WithLabelValues(faults[f].code).Inc()
		i.log.LogAttrs(r.Context(), slog.LevelWarn, "token request", attributes...)
		writeFault(w, f)
		return
	}
	attributes = append(attributes, slog.String("scope", g.Scope),
		slog.Int64("expires_in", g.ExpiresIn), slog.String("jti_sha256", logged(g.id)))
	i.metrics.issued.WithLabelValues(c.client.id, bound).Inc()
	i.log.LogAttrs(r.Context(), slog.LevelInfo, "token request", attributes...)
	noStore(w)
	writeJSON(w, http.StatusOK, g)
}

// grant decides what c asks for and signs the token. Its errors are refusals,
// unless signing fails.
func (i *Issuer) grant(c call) (grant, error) {
	switch c.parameters["grant_type"] {
	case clientCredentials:
	case "":
		return grant{}, refuse(invalidRequest, "no grant_type")
	default:
		return grant{}, refuse(unsupportedGrantType, "not "+clientCredentials)
	}
	scopes, err := c.client.grantScopes(c.parameters["scope"])
	if err != nil {
		return grant{}, err
	}
	g := grant{
		Type:      "Bearer", // RFC 8705 section 3: bound tokens keep the type
		ExpiresIn: int64(i.lifetime / time.Second),
		Scope:     strings.Join(scopes, " "),
		id:        newTokenID(),
	}
	g.Token, err = i.sign(c, g)
	return g, err
}

// newTokenID returns a jti: 26 characters of base32, 130 bits of chance and nothing
// else (RFC 6749 section 10.10 wants 128).
func newTokenID() string { return rand.Text() }

// grantScopes returns the scopes granted to c for a scope parameter: those that it
// names, each of which must be registered, or all that are when it names none
// (RFC 6749 section 3.3). Nothing is narrowed in silence.
func (c *client) grantScopes(parameter string) ([]string, error) {
	if parameter == "" {
		return c.scopes, nil
	}
	var granted []string
	for s := range strings.SplitSeq(parameter, " ") {
		if !slices.Contains(c.scopes, s) {
			return nil, refuse(invalidScope, "a scope is not registered")
		}
		if !slices.Contains(granted, s) {
			granted = append(granted, s)
		}
	}
	return granted, nil
}

// sign returns the access token for g, bound to the certificate that c
// authenticated with.
func (i *Issuer) sign(c call, g grant) (string, error) {
	now := i.now()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    i.identifier,
			Subject:   c.client.id,
			Audience:  jwt.ClaimStrings{i.audience},
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(i.lifetime)),
			ID:        g.id,
		},
		ClientID:     c.client.id,
		Scope:        g.Scope,
		Confirmation: confirmation{c.certificate.Thumbprint.String()},
	})
	token.Header["typ"] = "at+jwt" // RFC 9068 section 2.1
	token.Header["kid"] = i.key.id
	signed, err := token.SignedString(i.key.private)
	if err != nil {
		return "", fmt.Errorf("signing access token: %w", err)
	}
	return signed, nil
}

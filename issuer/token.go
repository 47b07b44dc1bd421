package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
)

// accessTokenType is the typ of an access token, RFC 9068 section 2.1.
const accessTokenType = "at+jwt"

// A grant is a token and what its client is told of it, RFC 6749 section 5.1.
type grant struct {
	Token     string `json:"access_token"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"` // seconds
	Scope     string `json:"scope,omitempty"`

	claims claims
}

// serveToken is the token endpoint. It answers, logs and counts in one place.
func (i *Issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	c, err := i.admit(r)
	var g grant
	if err == nil {
		g, err = i.grant(c)
	}
	attributes := c.attributes(err)
	if err != nil {
		f := faultOf(err)
		i.metrics.errors.WithLabelValues(faults[f].code).Inc()
		i.log.LogAttrs(r.Context(), slog.LevelWarn, "token request", attributes...)
		writeFault(w, f)
		return
	}
	attributes = append(attributes, slog.String("scope", g.Scope), slog.Any("resources", g.claims.Audience),
		slog.Int64("expires_in", g.ExpiresIn), slog.String("jti_sha256", logged(g.claims.ID)))
	i.metrics.issued.WithLabelValues(c.client.id, g.claims.binding()).Inc()
	i.log.LogAttrs(r.Context(), slog.LevelInfo, "token request", attributes...)
	noStore(w)
	writeJSON(w, http.StatusOK, g)
}

// grant decides what c asks for and makes the token. Its errors are refusals, unless
// signing fails.
func (i *Issuer) grant(c call) (grant, error) {
	d, err := i.decide(c, nil)
	if err != nil {
		return grant{}, err
	}
	g := grant{
		Type:      "Bearer", // RFC 8705 section 3: bound tokens keep the type
		ExpiresIn: int64(d.lifetime / time.Second),
		Scope:     strings.Join(d.scopes, " "),
		claims:    i.claimsOf(c, d),
	}
	if c.client.application.opaque {
		g.Token, err = i.keep(&g.claims)
	} else {
		g.Token, err = i.keys.Sign(accessTokenType, &g.claims)
	}
	return g, err
}

// claimsOf returns what the token for d says. It is bound to the certificate that c
// authenticated with, unless its application is to have unbound ones.
func (i *Issuer) claimsOf(c call, d decision) claims {
	now := i.now()
	for last := i.issued.Load(); last < now.Unix() && !i.issued.CompareAndSwap(last, now.Unix()); {
		last = i.issued.Load()
	}
	token := claims{
		Issuer:   i.identifier,
		Subject:  c.client.id, // RFC 9068 section 2.2: no resource owner is involved
		Audience: d.resources,
		IssuedAt: now.Unix(),
		Expires:  now.Add(d.lifetime).Unix(),
		ID:       newTokenID(),
		ClientID: c.client.id,
		Scope:    strings.Join(d.scopes, " "),
		Others:   d.claims,
	}
	if c.client.application.bound {
		token.Confirmation = &confirmation{Thumbprint: c.certificate.Thumbprint.String()}
	}
	return token
}

// newTokenID returns a jti: 26 characters of base32, 130 bits of chance and nothing
// else (RFC 6749 section 10.10 wants 128).
func newTokenID() string { return rand.Text() }

// keep stores c and returns the opaque token that stands for it: 256 bits of chance,
// of which only the SHA-256 is stored.
func (i *Issuer) keep(c *claims) (string, error) {
	record, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	var chance [32]byte
	_, _ = rand.Read(chance[:]) // never fails
	token := base64.RawURLEncoding.EncodeToString(chance[:])
	err = i.state.AddToken(sha256.Sum256([]byte(token)), store.Token{
		Client: c.ClientID, Expires: time.Unix(c.Expires, 0), Record: record,
	})
	if err != nil {
		return "", unstored(err)
	}
	return token, nil
}

// binding is what c is bound to, as a label.
func (c *claims) binding() string {
	if c.Confirmation == nil {
		return "none"
	}
	return "x5t#S256"
}

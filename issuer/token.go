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

// A tokenResponse is the response to a token request, RFC 6749 section 5.1.
type tokenResponse struct {
	Token     string `json:"access_token"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"` // seconds
	Scope     string `json:"scope,omitempty"`

	claims claims
}

// serveToken is the token endpoint. No other function writes its responses, log lines and counts.
func (i *Issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	c, err := i.admit(r)
	var issued tokenResponse
	if err == nil {
		issued, err = i.issue(c)
	}
	attributes := c.logAttributes(err)
	if err != nil {
		f := faultOf(err)
		i.metrics.errors.WithLabelValues(faults[f].code).Inc()
		i.log.LogAttrs(r.Context(), slog.LevelWarn, "token request", attributes...)
		writeFault(w, f)
		return
	}
	attributes = append(attributes, slog.String("scope", issued.Scope), slog.Any("resources", issued.claims.Audience),
		slog.Int64("expires_in", issued.ExpiresIn), slog.String("jti_hash", tokenIDHash(issued.claims.ID)))
	i.metrics.issued.WithLabelValues(c.client.id, issued.claims.binding()).Inc()
	i.log.LogAttrs(r.Context(), slog.LevelInfo, "token request", attributes...)
	noStore(w)
	writeJSON(w, http.StatusOK, issued)
}

// issue decides about the token request c and makes the token. Every error is a refusal, except an
// error of signing.
func (i *Issuer) issue(c call) (tokenResponse, error) {
	if len(c.proofs) > 0 {
		var err error
		if c.key, err = i.proofs.Thumbprint(c.proofs, i.now()); err != nil {
			return tokenResponse{}, &refusal{invalidDPoPProof, err}
		}
	}
	d, err := i.decide(c, nil)
	if err != nil {
		return tokenResponse{}, err
	}
	response := tokenResponse{
		ExpiresIn: int64(d.lifetime / time.Second),
		Scope:     strings.Join(d.scopes, " "),
		claims:    i.claimsOf(c, d),
	}
	response.Type = response.claims.tokenType()
	if c.client.application.opaque {
		response.Token, err = i.storeOpaque(&response.claims)
	} else {
		response.Token, err = i.keys.Sign(accessTokenType, &response.claims)
	}
	return response, err
}

// claimsOf returns the claims of the token for d. The token is bound to the certificate with which
// the client of c authenticated, unless the application is configured for unbound tokens. It is also
// bound to the key of c's proof, if c has a proof.
func (i *Issuer) claimsOf(c call, d decision) claims {
	now := i.now()
	for last := i.latestIssuedAt.Load(); last < now.Unix() && !i.latestIssuedAt.CompareAndSwap(last, now.Unix()); {
		last = i.latestIssuedAt.Load()
	}
	token := claims{
		Issuer:   i.identifier,
		Subject:  c.client.id, // RFC 9068 section 2.2: the client, because no resource owner is involved
		Audience: d.resources,
		IssuedAt: now.Unix(),
		Expires:  now.Add(d.lifetime).Unix(),
		ID:       newTokenID(),
		ClientID: c.client.id,
		Scope:    strings.Join(d.scopes, " "),
		Others:   d.claims,
	}
	if c.client.application.bound || c.key != "" {
		token.Confirmation = &confirmation{Key: c.key}
	}
	if c.client.application.bound {
		token.Confirmation.Thumbprint = c.certificate.Thumbprint.String()
	}
	return token
}

// newTokenID returns a jti of 26 base32 characters, which have 26 × 5 = 130 random bits. RFC 6749
// section 10.10 requires 128 bits.
func newTokenID() string { return rand.Text() }

// storeOpaque stores c and returns the opaque token for c: 256 random bits. Only the SHA-256 of the
// token is stored.
func (i *Issuer) storeOpaque(c *claims) (string, error) {
	record, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	var random [32]byte
	_, _ = rand.Read(random[:]) // rand.Read never fails
	token := base64.RawURLEncoding.EncodeToString(random[:])
	err = i.state.AddToken(sha256.Sum256([]byte(token)), store.Token{
		Client: c.ClientID, Expires: time.Unix(c.Expires, 0), Record: record,
	})
	if err != nil {
		return "", storeRefusal(err)
	}
	return token, nil
}

// binding returns the value of the metric label binding: the confirmation methods of c.
func (c *claims) binding() string {
	switch {
	case c.Confirmation == nil:
		return "none"
	case c.Confirmation.Key == "":
		return "x5t#S256"
	case c.Confirmation.Thumbprint == "":
		return "jkt"
	}
	return "both"
}

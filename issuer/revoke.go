package issuer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// serveRevoke is the revocation endpoint, RFC 7009 section 2. No other function writes its responses
// and log lines.
func (i *Issuer) serveRevoke(w http.ResponseWriter, r *http.Request) {
	c, err := i.admit(r)
	var id string
	if err == nil {
		id, err = i.revoke(c)
	}
	attributes := c.logAttributes(err)
	if err != nil {
		i.log.LogAttrs(r.Context(), slog.LevelWarn, "revocation request", attributes...)
		writeFault(w, faultOf(err))
		return
	}
	if id != "" {
		attributes = append(attributes, slog.String("jti_hash", tokenIDHash(id)))
	}
	i.log.LogAttrs(r.Context(), slog.LevelInfo, "revocation request", attributes...)
	noStore(w)
	w.WriteHeader(http.StatusOK)
}

// revoke revokes the token in c and returns its jti. It returns "" and no error if the token is
// unknown or has expired, because RFC 7009 section 2.2 requires success for such a token. The client
// may authenticate by any of its certificates, such as a renewed certificate. token_type_hint is
// ignored, because both forms of token are searched (RFC 7009 section 2.1). A token of another client
// is not revoked. For this case the RFC requires an error and names no code; the code is
// invalid_grant, whose definition includes the case. Every error is a refusal.
func (i *Issuer) revoke(c call) (string, error) {
	raw := c.parameters.get("token")
	if raw == "" {
		return "", refuse(invalidRequest, "token is missing")
	}
	token, err := i.findToken(raw)
	switch {
	case err != nil:
		return "", err
	case token == nil:
		return "", nil // RFC 7009 section 2.2 requires success
	case token.ClientID != c.client.id:
		return "", refuse(invalidGrant, "the token was issued to another client")
	}
	return token.ID, i.revokeToken(token, token.ClientID, author{})
}

// revokeToken revokes token durably. The entry counts toward the share of client; for "", the
// operator, there is no share. Every error is a refusal.
func (i *Issuer) revokeToken(token *claims, client string, by author) error {
	sum := sha256.Sum256([]byte(token.ID))
	return i.revocations.add(store.Revocation{
		Kind: revocation.Token, Subject: string(sum[:]), Client: client,
		Until: time.Unix(token.Expires, 0).Add(revocationRetention),
		Actor: by.actor, Reason: by.reason,
	})
}

// findToken returns the claims of a token that this issuer issued, or nil for an unknown token. It
// also finds a token past its exp for as long as a gate may accept the token within its leeway, so
// that the token can be revoked. Every error is a refusal, because the state could not be read.
func (i *Issuer) findToken(raw string) (*claims, error) {
	var c claims
	err := i.keys.Parse(raw, accessTokenType, &c,
		jwt.WithIssuer(i.identifier),
		jwt.WithLeeway(revocationRetention),
		jwt.WithTimeFunc(i.now),
	)
	if err == nil {
		return &c, nil
	}
	stored, ok, err := i.state.Token(sha256.Sum256([]byte(raw)))
	switch {
	case err != nil:
		return nil, storeRefusal(err)
	case !ok:
		return nil, nil
	}
	var opaque claims // not c, because Parse may have set fields of c
	if err := json.Unmarshal(stored.Record, &opaque); err != nil {
		return nil, fmt.Errorf("reading a stored token: %w", err)
	}
	return &opaque, nil
}

// storeRefusal maps an error of the store to a refusal: 503 if a retry may succeed, and 429 if the
// client has used its share.
func storeRefusal(err error) error {
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return &refusal{temporarilyUnavailable, err}
	case errors.Is(err, store.ErrShare):
		return &refusal{tooManyTokens, err}
	}
	return &refusal{serverError, err}
}

// tokenIDHash returns the first 64 bits of the hash of a jti in hex. This is enough to find a token
// in the log, and does not reveal the jti.
func tokenIDHash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8]) // 8 bytes are 16 characters
}

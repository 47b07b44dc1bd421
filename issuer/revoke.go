package issuer

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"

	"github.com/golang-jwt/jwt/v5"
)

// serveRevoke is the revocation endpoint, RFC 7009 section 2. It answers and logs
// in one place.
func (i *Issuer) serveRevoke(w http.ResponseWriter, r *http.Request) {
	c, err := i.admit(r)
	var id string
	if err == nil {
		id, err = i.revoke(c)
	}
	attributes := append(c.attributes(err), slog.String("remote_address", r.RemoteAddr))
	if err != nil {
		i.log.LogAttrs(r.Context(), slog.LevelWarn, "revocation request", attributes...)
		writeFault(w, faultOf(err))
		return
	}
	if id != "" {
		attributes = append(attributes, slog.String("jti_sha256", logged(id)))
	}
	i.log.LogAttrs(r.Context(), slog.LevelInfo, "revocation request", attributes...)
	noStore(w)
	w.WriteHeader(http.StatusOK)
}

// revoke revokes the token that c names and returns its jti, or "" when there was
// nothing to revoke: a token that is not ours, or counts nowhere any more, is
// answered like one that was revoked (RFC 7009 section 2.2). Any certificate of
// the client will do, also a renewed one. A token_type_hint is not looked at: there
// is one type. A token of another client goes on counting; RFC 7009 section 2.1
// wants an error without naming it, and invalid_grant is the one whose definition
// has the case. Its errors are refusals.
func (i *Issuer) revoke(c call) (string, error) {
	raw := c.parameters["token"]
	if raw == "" {
		return "", refuse(invalidRequest, "no token")
	}
	now := i.now()
	token, err := i.own(raw)
	if err != nil {
		return "", nil // RFC 7009 section 2.2: success
	}
	if token.ClientID != c.client.id {
		return "", refuse(invalidGrant, "the token is another client's")
	}
	if !i.revoked.add(token.ID, token.ClientID, token.ExpiresAt.Add(afterlife), now) {
		return "", refuse(temporarilyUnavailable, "too many revocations are held")
	}
	return token.ID, nil
}

// own returns the claims of a token that this issuer signed and that still counts
// somewhere. A token is past its exp, and yet worth revoking, for as long as a
// gate's leeway may let it pass.
func (i *Issuer) own(raw string) (*claims, error) {
	var c claims
	_, err := jwt.ParseWithClaims(raw, &c,
		func(*jwt.Token) (any, error) { return &i.key.private.PublicKey, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}),
		jwt.WithStrictDecoding(),
		jwt.WithIssuer(i.identifier),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(afterlife),
		jwt.WithTimeFunc(i.now),
	)
	return &c, err
}

// logged returns the form in which a jti is logged: enough of its hash to find a
// token again, and no way back to it.
func logged(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8]) // 16 characters
}

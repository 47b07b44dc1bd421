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
)

// serveRevoke is the revocation endpoint, RFC 7009 section 2. It answers and logs
// in one place.
func (i *Issuer) serveRevoke(w http.ResponseWriter, r *http.Request) {
	c, err := i.admit(r)
	var id string
	if err == nil {
		id, err = i.revoke(c)
	}
	attributes := c.attributes(err)
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
// the client will do, also a renewed one. A token_type_hint is not looked at: both
// forms are looked for (section 2.1). A token of another client goes on counting; the
// RFC wants an error without naming it, and invalid_grant is the one whose definition
// has the case. Its errors are refusals.
func (i *Issuer) revoke(c call) (string, error) {
	raw := c.parameters.get("token")
	if raw == "" {
		return "", refuse(invalidRequest, "no token")
	}
	token, err := i.own(raw)
	switch {
	case err != nil:
		return "", err
	case token == nil:
		return "", nil // RFC 7009 section 2.2: success
	case token.ClientID != c.client.id:
		return "", refuse(invalidGrant, "the token is another client's")
	}
	return token.ID, i.revokeToken(token, token.ClientID)
}

// revokeToken ends token, durably, at the wish of client. Its errors are refusals.
func (i *Issuer) revokeToken(token *claims, client string) error {
	sum := sha256.Sum256([]byte(token.ID))
	return i.revoked.add(store.Revocation{
		Kind: store.RevokedToken, Subject: string(sum[:]), Client: client,
		Until: time.Unix(token.Expires, 0).Add(afterlife),
	})
}

// own returns what a token says that this issuer made and that still counts
// somewhere, nil when there is none. A token is past its exp, and yet worth revoking,
// for as long as a gate's leeway may let it pass. Its errors are refusals: the state
// cannot tell.
func (i *Issuer) own(raw string) (*claims, error) {
	var c claims
	err := i.keys.Parse(raw, accessTokenType, &c,
		jwt.WithIssuer(i.identifier),
		jwt.WithLeeway(afterlife),
		jwt.WithTimeFunc(i.now),
	)
	if err == nil {
		return &c, nil
	}
	stored, ok, err := i.state.Token(sha256.Sum256([]byte(raw)))
	switch {
	case err != nil:
		return nil, unstored(err)
	case !ok:
		return nil, nil
	}
	var kept claims // nothing of what Parse left in c
	if err := json.Unmarshal(stored.Record, &kept); err != nil {
		return nil, fmt.Errorf("reading a stored token: %w", err)
	}
	return &kept, nil
}

// unstored is the refusal for an err of the state: 503 where a later try may succeed, 429
// where it is the client that holds too much.
func unstored(err error) error {
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return &refusal{temporarilyUnavailable, err}
	case errors.Is(err, store.ErrShare):
		return &refusal{tooManyTokens, err}
	}
	return &refusal{serverError, err}
}

// logged returns the form in which a jti is logged: enough of its hash to find a
// token again, and no way back to it.
func logged(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8]) // 16 characters
}

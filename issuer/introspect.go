package issuer

import (
	"errors"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/access"
)

// signedMediaType is the media type of a signed introspection response (RFC 9701 section 4). Without
// the prefix "application/" it is also the typ of the JWT.
const signedMediaType = "application/token-introspection+jwt"

// serveIntrospect is the introspection endpoint, RFC 7662 section 2. No other function writes its
// responses, log lines and counts.
func (i *Issuer) serveIntrospect(w http.ResponseWriter, r *http.Request) {
	c, err := i.admit(r)
	var found *claims
	if err == nil {
		found, err = i.introspect(c)
	}
	attributes := c.logAttributes(err)
	if err != nil {
		i.metrics.introspections.WithLabelValues("error").Inc()
		i.log.LogAttrs(r.Context(), slog.LevelWarn, "introspection request", attributes...)
		writeFault(w, faultOf(err))
		return
	}
	attributes = append(attributes, slog.Bool("active", found != nil))
	outcome := "inactive"
	if found != nil {
		outcome = "active"
		attributes = append(attributes, slog.String("token_client_id", found.ClientID), slog.String("jti_hash", tokenIDHash(found.ID)))
	}
	i.metrics.introspections.WithLabelValues(outcome).Inc()
	i.log.LogAttrs(r.Context(), slog.LevelInfo, "introspection request", attributes...)
	noStore(w)
	w.Header().Set("Vary", "Accept")
	if !wantsSigned(r.Header["Accept"]) {
		writeJSON(w, http.StatusOK, introspectionResponse(found))
		return
	}
	i.writeSigned(w, c.client.id, found)
}

// introspect returns the claims of the token in c. It returns nil if the token is inactive or is not
// meant for c's client. Only resource servers get claims, and the audience in the claims has only
// their own resources (RFC 7662 section 4), so a client that probes for tokens learns nothing.
func (i *Issuer) introspect(c call) (*claims, error) {
	raw := c.parameters.get("token")
	if raw == "" {
		return nil, refuse(invalidRequest, "token is missing")
	}
	found, err := i.activeToken(raw)
	if err != nil || found == nil {
		return nil, err
	}
	own := slices.DeleteFunc(slices.Clone(found.Audience), func(a string) bool { return !slices.Contains(c.client.audiences, a) })
	if len(own) == 0 {
		return nil, nil
	}
	narrowed := *found
	narrowed.Audience = own
	return &narrowed, nil
}

// activeToken returns the claims of a token of this issuer, or nil if the token is inactive. A token
// is inactive if it is expired, revoked, or issued to a client that was removed or disabled. Every
// error is a refusal.
func (i *Issuer) activeToken(raw string) (*claims, error) {
	found, err := i.findToken(raw)
	if err != nil || found == nil {
		return nil, err
	}
	c := i.clients[found.ClientID]
	if c == nil || c.disabled || i.now().Unix() >= found.Expires {
		return nil, nil
	}
	thumbprint, _ := access.ParseThumbprint(found.thumbprint()) // zero if the token is not bound to a certificate
	// The issuer is ours even if the token was stored under a former identifier.
	if i.revoking.Revoked(i.revocations.set, &access.Unchecked{
		Issuer: i.identifier, TokenID: found.ID, ClientID: c.id, IssuedAt: time.Unix(found.IssuedAt, 0),
		Confirmation: access.Confirmation{Thumbprint: thumbprint},
	}, i.now()) {
		return nil, nil
	}
	return found, nil
}

var errNotOpen = errors.New("the issuer's state is not open yet")

// Resolve returns the claims of a token of this issuer, with its whole audience, and whether the
// token is active. The gate in the same process calls it in place of introspection, and checks the
// claims. With an error the status of the token is unknown. Resolve is safe for concurrent use and
// takes every acknowledged revocation into account.
func (i *Issuer) Resolve(raw string) (token access.Unchecked, active bool, err error) {
	if i.state == nil {
		return access.Unchecked{}, false, errNotOpen
	}
	if err := i.currentRefusal(); err != nil {
		return access.Unchecked{}, false, err
	}
	found, err := i.activeToken(raw)
	if err != nil || found == nil {
		return access.Unchecked{}, false, err
	}
	return unchecked(found), true, nil
}

// unchecked returns found in the form that package validate checks.
func unchecked(found *claims) access.Unchecked {
	token := access.Unchecked{
		Issuer: found.Issuer, Subject: found.Subject, ClientID: found.ClientID, TokenID: found.ID,
		Audience: found.Audience, Scopes: strings.Fields(found.Scope),
		Expires: time.Unix(found.Expires, 0), IssuedAt: time.Unix(found.IssuedAt, 0),
		Confirmation: access.Confirmation{Present: found.Confirmation != nil},
	}
	if found.Confirmation != nil {
		token.Confirmation.Thumbprint, token.Confirmation.Key = found.Confirmation.thumbprints()
	}
	return token
}

// thumbprints returns the thumbprints of c. The thumbprint for an absent member is zero. If a member
// is malformed, or is a method that the gate does not check, both thumbprints are zero, and match no
// certificate and no key.
func (c *confirmation) thumbprints() (certificate, key access.Thumbprint) {
	none := access.Thumbprint{}
	if len(c.Others) > 0 {
		return none, none
	}
	certificate, malformedCertificate := optionalThumbprint(c.Thumbprint)
	key, malformedKey := optionalThumbprint(c.Key)
	if malformedCertificate != nil || malformedKey != nil {
		return none, none
	}
	return certificate, key
}

// optionalThumbprint decodes s. It returns the zero thumbprint for "".
func optionalThumbprint(s string) (access.Thumbprint, error) {
	if s == "" {
		return access.Thumbprint{}, nil
	}
	return access.ParseThumbprint(s)
}

// introspectionResponse returns the response of RFC 7662 section 2.2. If c is nil, the response has
// only the member active.
func introspectionResponse(c *claims) any {
	if c == nil {
		return map[string]any{"active": false}
	}
	all := make(map[string]any, len(c.Others)+12)
	maps.Copy(all, c.Others)
	all["active"] = true
	all["token_type"] = c.tokenType()
	all["iss"], all["sub"], all["aud"] = c.Issuer, c.Subject, c.Audience
	all["exp"], all["iat"], all["jti"] = c.Expires, c.IssuedAt, c.ID
	all["client_id"] = c.ClientID
	if c.Scope != "" {
		all["scope"] = c.Scope
	}
	if c.Confirmation != nil {
		all["cnf"] = c.Confirmation // RFC 8705 section 3.2: cnf is a top-level member of the response
	}
	return all
}

// writeSigned writes a signed response for the client with the client_id caller, RFC 9701 section 5.
// The JWT has no sub and no exp, so no server accepts it as an access token.
func (i *Issuer) writeSigned(w http.ResponseWriter, caller string, found *claims) {
	signed, err := i.keys.Sign(strings.TrimPrefix(signedMediaType, "application/"), jwt.MapClaims{
		"iss": i.identifier, "aud": caller, "iat": i.now().Unix(), "token_introspection": introspectionResponse(found),
	})
	if err != nil {
		i.log.Error("introspection response not signed", "error", err)
		writeFault(w, serverError)
		return
	}
	w.Header().Set("Content-Type", signedMediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(signed))
}

// wantsSigned reports whether an Accept header accepts a signed response.
func wantsSigned(accept []string) bool {
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			t, parameters, err := mime.ParseMediaType(item)
			if err == nil && t == signedMediaType && parameters["q"] != "0" {
				return true
			}
		}
	}
	return false
}

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

// signedMediaType is the media type of a signed introspection response (RFC 9701 section 4).
// Without "application/" it is the typ of the JWT.
const signedMediaType = "application/token-introspection+jwt"

// serveIntrospect is the introspection endpoint, RFC 7662 section 2. Every response, log line
// and count is written here.
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
		attributes = append(attributes, slog.String("token_client_id", found.ClientID), slog.String("jti_sha256", tokenIDHash(found.ID)))
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

// introspect returns the claims of the token in c, or nil if the token is inactive or not meant
// for c's client. Only resource servers get claims, and only with their own resources as
// audience (RFC 7662 section 4), so a client that probes for tokens learns nothing.
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

// activeToken returns the claims of a token of this issuer, or nil if it is inactive: expired,
// revoked, or issued to a client that was removed or disabled. Errors are refusals.
func (i *Issuer) activeToken(raw string) (*claims, error) {
	found, err := i.findToken(raw)
	if err != nil || found == nil {
		return nil, err
	}
	c := i.clients[found.ClientID]
	if c == nil || c.disabled || i.now().Unix() >= found.Expires {
		return nil, nil
	}
	thumbprint, _ := access.ParseThumbprint(found.thumbprint()) // zero for an unbound token
	if i.revocations.revokes(found.ID, c.id, c.partner, thumbprint, found.IssuedAt) {
		return nil, nil
	}
	return found, nil
}

var errNotOpen = errors.New("the issuer's state is not open yet")

// Resolve returns the claims of a token of this issuer and whether it is active, with its whole
// audience. The gate in the same process uses it in place of introspection, and checks the
// claims. With an error the status of the token is unknown. Resolve is safe for concurrent use
// and sees every revocation that was acknowledged.
func (i *Issuer) Resolve(raw string) (token access.Unchecked, active bool, err error) {
	if i.state == nil {
		return access.Unchecked{}, false, errNotOpen
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

// thumbprints returns the thumbprints of c, zero for an absent member. If a member is malformed, or is
// a method that is not checked, both are zero, which match no certificate and no key.
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

// optionalThumbprint decodes s, and returns zero for "".
func optionalThumbprint(s string) (access.Thumbprint, error) {
	if s == "" {
		return access.Thumbprint{}, nil
	}
	return access.ParseThumbprint(s)
}

// introspectionResponse returns the response of RFC 7662 section 2.2. For a nil c it has the
// single member active.
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
		all["cnf"] = c.Confirmation // cnf is at the top level, RFC 8705 section 3.2
	}
	return all
}

// writeSigned writes a signed response for the client caller, RFC 9701 section 5. The JWT has no
// sub and no exp, so it cannot pass for an access token.
func (i *Issuer) writeSigned(w http.ResponseWriter, caller string, found *claims) {
	signed, err := i.keys.Sign(strings.TrimPrefix(signedMediaType, "application/"), jwt.MapClaims{
		"iss": i.identifier, "aud": caller, "iat": i.now().Unix(), "token_introspection": introspectionResponse(found),
	})
	if err != nil {
		i.log.Error("introspection response not signed", "err", err)
		writeFault(w, serverError)
		return
	}
	w.Header().Set("Content-Type", signedMediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(signed))
}

// wantsSigned reports whether an Accept header accepts the signed form.
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

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

// signedAnswer is the media type of a signed introspection, RFC 9701 section 4, and
// without "application/" the typ of its JWT.
const signedAnswer = "application/token-introspection+jwt"

// serveIntrospect is the introspection endpoint, RFC 7662 section 2. It answers, logs
// and counts in one place.
func (i *Issuer) serveIntrospect(w http.ResponseWriter, r *http.Request) {
	c, err := i.admit(r)
	var found *claims
	if err == nil {
		found, err = i.introspect(c)
	}
	attributes := c.attributes(err)
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
		attributes = append(attributes, slog.String("token_client_id", found.ClientID), slog.String("jti_sha256", logged(found.ID)))
	}
	i.metrics.introspections.WithLabelValues(outcome).Inc()
	i.log.LogAttrs(r.Context(), slog.LevelInfo, "introspection request", attributes...)
	noStore(w)
	w.Header().Set("Vary", "Accept")
	if !wantsSigned(r.Header["Accept"]) {
		writeJSON(w, http.StatusOK, members(found))
		return
	}
	i.writeSigned(w, c.client.id, found)
}

// introspect returns what the token that c names says to c, nil when it does not count
// or is not meant for c. Only a resource server is told anything, and only of its own
// resources (RFC 7662 section 4): a client that scans for tokens learns nothing.
func (i *Issuer) introspect(c call) (*claims, error) {
	raw := c.parameters.get("token")
	if raw == "" {
		return nil, refuse(invalidRequest, "no token")
	}
	found, err := i.active(raw)
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

// active returns what a token of ours says, nil when it does not count now: it has
// expired, was revoked, or its client is no more. Its errors are refusals.
func (i *Issuer) active(raw string) (*claims, error) {
	found, err := i.own(raw)
	if err != nil || found == nil {
		return nil, err
	}
	c := i.clients[found.ClientID]
	if c == nil || c.disabled || i.now().Unix() >= found.Expires {
		return nil, nil
	}
	thumbprint, _ := access.ParseThumbprint(found.thumbprint()) // zero for an unbound one
	if i.revoked.revokes(found.ID, c.id, c.partner, thumbprint, found.IssuedAt) {
		return nil, nil
	}
	return found, nil
}

var errNotOpen = errors.New("the issuer is not open yet")

// Resolve returns what a token of ours says and whether it is active, as introspection
// tells a resource server that every audience is: for a gate in the same process, which
// judges it. An error says that there is no telling. It is safe for concurrent use, and
// a revocation that has been answered counts in it.
func (i *Issuer) Resolve(raw string) (says access.Unchecked, active bool, err error) {
	if i.state == nil {
		return access.Unchecked{}, false, errNotOpen
	}
	found, err := i.active(raw)
	if err != nil || found == nil {
		return access.Unchecked{}, false, err
	}
	return unchecked(found), true, nil
}

// unchecked returns what a token of ours says, in the words of the gate.
func unchecked(found *claims) access.Unchecked {
	says := access.Unchecked{
		Issuer: found.Issuer, Subject: found.Subject, ClientID: found.ClientID, TokenID: found.ID,
		Audience: found.Audience, Scopes: strings.Fields(found.Scope),
		Expires: time.Unix(found.Expires, 0), IssuedAt: time.Unix(found.IssuedAt, 0),
		Confirmation: access.Confirmation{Present: found.Confirmation != nil},
	}
	// What cannot be read, or stands beside a binding that is not checked, stays zero, which
	// matches no certificate.
	if found.Confirmation != nil && len(found.Confirmation.Others) == 0 {
		says.Confirmation.Thumbprint, _ = access.ParseThumbprint(found.thumbprint())
	}
	return says
}

// members returns the introspection response of RFC 7662 section 2.2. Of a token that
// does not count it says nothing more than that.
func members(c *claims) any {
	if c == nil {
		return map[string]any{"active": false}
	}
	all := make(map[string]any, len(c.Others)+12)
	maps.Copy(all, c.Others)
	all["active"] = true
	all["token_type"] = "Bearer"
	all["iss"], all["sub"], all["aud"] = c.Issuer, c.Subject, c.Audience
	all["exp"], all["iat"], all["jti"] = c.Expires, c.IssuedAt, c.ID
	all["client_id"] = c.ClientID
	if c.Scope != "" {
		all["scope"] = c.Scope
	}
	if c.Confirmation != nil {
		all["cnf"] = c.Confirmation // RFC 8705 section 3.2: at the top level
	}
	return all
}

// writeSigned answers with a JWT for caller, RFC 9701 section 5. It has no sub and no
// exp, so that it can pass for no access token.
func (i *Issuer) writeSigned(w http.ResponseWriter, caller string, found *claims) {
	signed, err := i.keys.Sign(strings.TrimPrefix(signedAnswer, "application/"), jwt.MapClaims{
		"iss": i.identifier, "aud": caller, "iat": i.now().Unix(), "token_introspection": members(found),
	})
	if err != nil {
		i.log.Error("signing introspection", "err", err)
		writeFault(w, serverError)
		return
	}
	w.Header().Set("Content-Type", signedAnswer)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(signed))
}

// wantsSigned reports whether an Accept header names the signed form.
func wantsSigned(accept []string) bool {
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			t, parameters, err := mime.ParseMediaType(item)
			if err == nil && t == signedAnswer && parameters["q"] != "0" {
				return true
			}
		}
	}
	return false
}

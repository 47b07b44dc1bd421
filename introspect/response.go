package introspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/jwks"
)

// parseResponse reads a response with status 200. It returns an error for a response that is not
// valid. Such a response never means that the token is inactive.
func (c *Client) parseResponse(ctx context.Context, httpResponse *fetch.Response, requestedAt time.Time) (*response, error) {
	document, want := jsontext.Value(httpResponse.Body), jsonMediaType
	if c.settings.Signed {
		want = jwtMediaType
	}
	if httpResponse.MediaType != want {
		return nil, fmt.Errorf("answered with content type %q instead of %s", access.Truncate(httpResponse.MediaType), want)
	}
	if c.settings.Signed {
		var err error
		if document, err = c.verifySigned(ctx, string(httpResponse.Body), requestedAt); err != nil {
			return nil, err
		}
	}
	return c.parseMembers(document)
}

// members are the members of an introspection response, RFC 7662 section 2.2, and the members by
// which servers mark the type of a token.
type members struct {
	facts.Members
	Active    jsontext.Value `json:"active"`
	TokenType facts.Member   `json:"token_type"`
	TokenUse  facts.Member   `json:"token_use"`
	Type      facts.Member   `json:"typ"`
}

// parseMembers reads an introspection response. Only active: true means active, and a response
// without true or false is an error (RFC 7662 section 2.2 requires active). Invalid claims of an
// active token make the token malformed, because another request would not fix them.
func (c *Client) parseMembers(document jsontext.Value) (*response, error) {
	if err := jsonlimit.Check(document); err != nil {
		return nil, fmt.Errorf("reading the response: %w, %w", err, errTokenCaused)
	}
	var r members
	if document.Kind() != jsontext.KindBeginObject || json.Unmarshal(document, &r) != nil {
		return nil, errors.New("the response is not an introspection response in JSON")
	}
	if r.Active.Kind() == jsontext.KindFalse {
		return &response{denial: &access.Denial{Reason: access.Inactive, Err: fmt.Errorf("according to %s", c.server)}}, nil
	}
	if r.Active.Kind() != jsontext.KindTrue {
		return nil, errors.New("the response has no active member that is true or false")
	}
	if kind := r.otherTokenType(); kind != "" {
		return &response{denial: &access.Denial{Reason: access.WrongType, Err: fmt.Errorf("a token of type %q, according to %s", access.Truncate(kind), c.server)}}, nil
	}
	if c.settings.TextTimes {
		r.readTextTimes()
	}
	claims, err := c.mapping.Read(c.server, &r.Members, document)
	var malformed *access.Denial
	if errors.As(err, &malformed) {
		return &response{denial: malformed}, nil
	} else if err != nil {
		return nil, err
	}
	if r.Issuer == nil { // without iss, because the server was asked about a token of its own
		claims.Issuer = c.issuer
	}
	if claims.Audience == nil && c.settings.InsecureAudienceOptional {
		claims.Audience = c.audiences[:1]
	}
	if r.Expires == nil {
		// The response has no exp, so the claims get one. The cache entry expires earlier, and then
		// the server is asked about the token again.
		claims.Expires = c.now().Add(max(c.settings.Cache.MaxAge, time.Second) + c.settings.Cache.StaleOnError)
	}
	return &response{Response: Response{Claims: claims}}, nil
}

// accessTokenTypes are the values of token_type that mark an access token, in lower case: the types
// of RFC 6750 and RFC 9449, and the names for an access token in RFC 7009 section 2.1 and in RFC 8693
// section 3.
var accessTokenTypes = []string{"bearer", "dpop", "access_token", "urn:ietf:params:oauth:token-type:access_token"}

// otherTokenType returns the type of a token that is not an access token, or "" for an access token.
// Some servers report refresh tokens as active.
func (r *members) otherTokenType() string {
	for _, member := range []struct {
		value facts.Member
		words []string
	}{{r.TokenType, accessTokenTypes}, {r.TokenUse, facts.AccessUses}, {r.Type, facts.AccessTypes}} {
		if member.value == nil {
			continue
		}
		kind, ok := member.value.Text()
		if !ok {
			return string(member.value)
		}
		if !slices.Contains(member.words, strings.ToLower(kind)) {
			return cmp.Or(kind, `""`)
		}
	}
	return ""
}

// readTextTimes replaces each time that is a text of decimal digits by a number. Any other text
// remains, and makes the token malformed.
func (r *members) readTextTimes() {
	for _, m := range []*facts.Member{&r.Expires, &r.NotBefore, &r.IssuedAt} {
		text, ok := m.Text()
		if ok && text != "" && strings.Trim(text, "0123456789") == "" {
			*m = facts.Member(text)
		}
	}
}

// A signedResponse is the JWT of a signed response, RFC 9701 section 5.
type signedResponse struct {
	facts.Members
	Response jsontext.Value `json:"token_introspection"`
}

// verifySigned returns the introspection response in a signed response. The JWT must have the type of
// RFC 9701, be signed by the server's keys, come from the server, be meant for this gate, and be
// issued after the request, within the leeway. RFC 9701 section 5 defines no claim that names the
// introspected token. So an attacker who breaks TLS could replace the response by a response about
// another token that was issued within the leeway.
func (c *Client) verifySigned(ctx context.Context, raw string, requestedAt time.Time) (jsontext.Value, error) {
	jws, err := jwks.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("signed response: %w", err)
	}
	now := c.now()
	if _, _, err := c.keys.Verify(ctx, jws, jwks.MediaTypes(jwtMediaType), now); err != nil {
		return nil, fmt.Errorf("signed response: %w", err)
	}
	if err := jsonlimit.Check(jws.Payload); err != nil {
		return nil, fmt.Errorf("signed response: %w, %w", err, errTokenCaused)
	}
	var e signedResponse
	if json.Unmarshal(jws.Payload, &e) != nil {
		return nil, errors.New("signed response: the payload is not a JSON object without duplicate names")
	}
	claims, err := e.Read(c.server)
	switch {
	case err != nil:
		return nil, fmt.Errorf("signed response: %w", err)
	case claims.Issuer != c.issuer:
		return nil, fmt.Errorf("signed response: issued by %q", access.Truncate(claims.Issuer))
	case !c.isFor(claims.Audience):
		return nil, errors.New("signed response: the audience is another resource server")
	case claims.IssuedAt.IsZero() || claims.IssuedAt.After(now.Add(c.leeway)) || claims.IssuedAt.Before(requestedAt.Truncate(time.Second).Add(-c.leeway)):
		return nil, errors.New("signed response: issued outside the time of the request")
	}
	return e.Response, nil
}

// isFor reports whether audience names this gate: by its client_id, as RFC 9701 section 5 requires,
// or by a configured audience, as some servers do.
func (c *Client) isFor(audience []string) bool {
	return slices.ContainsFunc(audience, func(a string) bool {
		return a != "" && a == string(c.settings.ClientID) || slices.Contains(c.audiences, a)
	})
}

package introspect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/jwks"
)

// A reply is what a server said of one token.
type response struct {
	token  access.Unchecked
	denial *access.Denial // not nil when the token is inactive, malformed, or no access token
}

// errThisToken marks a failure that one token may have brought about, errTooMany one that
// the tokens of one holder may.
var (
	errTokenCaused = errors.New("of this token")
	errRateLimited = errors.New("too many questions at a time")
)

// The media types of answers, RFC 7662 section 2.2 and RFC 9701 section 5.
const (
	jsonMediaType = "application/json"
	jwtMediaType  = "application/token-introspection+jwt"
)

// ask sends the question, RFC 7662 section 2.1, at the time that asked is. It does so once
// more if there was no connection, or only one that had been kept open too long.
func (c *Client) requestWithRetry(ctx context.Context, endpoint *url.URL, raw string, asked time.Time) (*response, error) {
	began := time.Now()
	answer, says, err := c.post(ctx, endpoint, raw)
	if errors.Is(err, errConnection) && ctx.Err() == nil {
		answer, says, err = c.post(ctx, endpoint, raw)
	}
	c.metrics.duration.Observe(time.Since(began).Seconds())
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, statusError(answer.Status, says)
	}
	return c.parseResponse(ctx, answer, asked)
}

// unwilling returns what an answer means that has another status than 200. says is what the
// server itself says of it, for the log. It is never taken for inactive.
func statusError(status int, says string) error {
	switch {
	case refusesCredentials(status):
		return fmt.Errorf("%w with status %d%s", errCredentialsRefused, status, says)
	case status == http.StatusTooManyRequests:
		return fmt.Errorf("answered with status %d%s: %w", status, says, errRateLimited)
	case status >= 400 && status < 500:
		return fmt.Errorf("answered with status %d%s %w", status, says, errTokenCaused)
	}
	return fmt.Errorf("answered with status %d%s", status, says)
}

// endpoint returns where to ask, as configured or as the server's metadata says.
func (c *Client) endpoint() (*url.URL, error) {
	if c.settings.Endpoint != nil {
		return &c.settings.Endpoint.URL, nil
	}
	m, err := c.remote.Metadata()
	if err != nil {
		return nil, err
	}
	if m.Introspection == nil {
		return nil, errors.New("the server's metadata names no introspection_endpoint")
	}
	return m.Introspection, nil
}

// post sends the question once. says is what the server itself says of a question that it
// turns down, for the log.
func (c *Client) post(ctx context.Context, endpoint *url.URL, raw string) (answer *authserver.Response, says string, err error) {
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {jsonMediaType}}
	if c.settings.Signed {
		header.Set("Accept", jwtMediaType)
	}
	if err := c.credentials.apply(form, header, c.now()); err != nil {
		return nil, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", errors.New("the endpoint makes no request") // err would quote the query
	}
	request.Header = header
	var reused atomic.Bool
	trace := httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { reused.Store(got.Reused) }}
	answer, err = c.remote.Send(request.WithContext(httptrace.WithClientTrace(ctx, &trace)), authserver.MaxIntrospection)
	var dialing *net.OpError
	switch {
	case errors.Is(err, authserver.ErrTooLarge):
		err = fmt.Errorf("%w %w", err, errTokenCaused)
	case errors.Is(err, authserver.ErrEncoded):
	case err != nil && (reused.Load() || errors.As(err, &dialing) && dialing.Op == "dial"):
		err = fmt.Errorf("%w: %w", errConnection, err)
	}
	if err == nil && answer.Status != http.StatusOK {
		says = quoteError(answer, secretsOf(form, header))
	}
	return answer, says, err
}

// errConnection marks a failure that a new connection may mend. Asking twice does no
// harm, as long as what authenticates the gate is made for each time: net/http, if told
// to ask again, would show one assertion twice, which RFC 7523 section 3 has servers
// turn down.
var errConnection = errors.New("the connection failed")

// understand reads an answer of status 200. What cannot be understood is an error and says nothing of
// the token: it is never taken for inactive.
func (c *Client) parseResponse(ctx context.Context, answer *authserver.Response, asked time.Time) (*response, error) {
	document, want := jsontext.Value(answer.Body), jsonMediaType
	if c.settings.Signed {
		want = jwtMediaType
	}
	if answer.MediaType != want {
		return nil, fmt.Errorf("answered with content type %q instead of %s", access.Truncate(answer.MediaType), want)
	}
	if c.settings.Signed {
		var err error
		if document, err = c.verifySigned(ctx, string(answer.Body), asked); err != nil {
			return nil, err
		}
	}
	return c.parseMembers(document)
}

// response is an introspection response, RFC 7662 section 2.2. What it says beside is
// how some servers tell an access token from others.
type members struct {
	facts.Members
	Active    jsontext.Value `json:"active"`
	TokenType facts.Member   `json:"token_type"`
	TokenUse  facts.Member   `json:"token_use"`
	Type      facts.Member   `json:"typ"`
}

// read returns what document, a response, says. Only true is active, and an answer without
// true or false is none (RFC 7662 section 2.2 requires it), null included. What an active
// token says and cannot be read is a fault of the token: asking again would not mend it.
func (c *Client) parseMembers(document jsontext.Value) (*response, error) {
	if err := jsonlimit.Check(document); err != nil {
		return nil, fmt.Errorf("reading the answer %w: %w", errTokenCaused, err)
	}
	var r members
	if document.Kind() != jsontext.KindBeginObject || json.Unmarshal(document, &r) != nil {
		return nil, errors.New("the answer is no introspection response in JSON")
	}
	if r.Active.Kind() == jsontext.KindFalse {
		return &response{denial: &access.Denial{Reason: access.Inactive, Err: fmt.Errorf("says %s", c.server)}}, nil
	}
	if r.Active.Kind() != jsontext.KindTrue {
		return nil, errors.New("the answer does not say whether the token is active")
	}
	if kind := r.otherTokenType(); kind != "" {
		return &response{denial: &access.Denial{Reason: access.WrongType, Err: fmt.Errorf("%s says that it is of type %q", c.server, access.Truncate(kind))}}, nil
	}
	says, err := r.Read(c.server)
	var malformed *access.Denial
	if errors.As(err, &malformed) {
		return &response{denial: malformed}, nil
	} else if err != nil {
		return nil, err
	}
	if r.Issuer == nil { // it was asked itself
		says.Issuer = c.issuer
	}
	if r.Expires == nil {
		// Active now, and asked again when what is remembered ends.
		says.Expires = c.now().Add(max(c.settings.Cache.MaxAge, time.Second) + c.settings.Cache.StaleOnError)
	}
	return &response{token: says}, nil
}

// The words by which servers say that a token is an access token, in each member where
// some say so. In lower case.
var (
	accessTypes = []string{"bearer", "dpop"}
	accessUses  = []string{"access_token", "access"}
	accessTyps  = []string{"bearer", "dpop", "at+jwt", "application/at+jwt", "jwt"}
)

// other returns what kind of token it is when the server says that it is no access
// token, "" otherwise. A refresh token is active too, at a server that knows no better.
func (r *members) otherTokenType() string {
	for _, said := range []struct {
		value facts.Member
		words []string
	}{{r.TokenType, accessTypes}, {r.TokenUse, accessUses}, {r.Type, accessTyps}} {
		kind, ok := said.value.Text()
		if ok && !slices.Contains(said.words, strings.ToLower(kind)) {
			return kind
		}
	}
	return ""
}

// envelope is the JWT of a signed answer, RFC 9701 section 5.
type signedResponse struct {
	facts.Members
	Response jsontext.Value `json:"token_introspection"`
}

// verify returns the response in a signed answer: by its type it can be nothing else,
// it is signed by the server's keys, comes from the server, is meant for this gate, and
// was not made before the question, give or take the leeway. It does not name the token
// (RFC 9701 section 5): whoever stands between gate and server, despite TLS, could show
// an answer from within the leeway for another.
func (c *Client) verifySigned(ctx context.Context, raw string, asked time.Time) (jsontext.Value, error) {
	jws, err := jwks.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("signed answer: %w", err)
	}
	now := c.now()
	if _, _, err := c.keys.Verify(ctx, jws, jwks.MediaTypes(jwtMediaType), now); err != nil {
		return nil, fmt.Errorf("signed answer: %w", err)
	}
	if err := jsonlimit.Check(jws.Payload); err != nil {
		return nil, fmt.Errorf("signed answer %w: %w", errTokenCaused, err)
	}
	var e signedResponse
	if json.Unmarshal(jws.Payload, &e) != nil {
		return nil, errors.New("signed answer: the payload is no JSON object with each name once")
	}
	says, err := e.Read(c.server)
	switch {
	case err != nil:
		return nil, fmt.Errorf("signed answer: %w", err)
	case says.Issuer != c.issuer:
		return nil, fmt.Errorf("signed answer: it comes from %q", access.Truncate(says.Issuer))
	case !c.isFor(says.Audience):
		return nil, errors.New("signed answer: it is meant for another resource server")
	case says.IssuedAt.IsZero() || says.IssuedAt.After(now.Add(c.leeway)) || says.IssuedAt.Before(asked.Truncate(time.Second).Add(-c.leeway)):
		return nil, errors.New("signed answer: it was not made for this question")
	}
	return e.Response, nil
}

// isFor reports whether an audience names this gate: by its client_id, as RFC 9701 section
// 5 wants it, or by one of the resources that it stands before, as some servers do.
func (c *Client) isFor(audience []string) bool {
	return slices.ContainsFunc(audience, func(a string) bool {
		return a != "" && a == string(c.settings.ClientID) || slices.Contains(c.audiences, a)
	})
}

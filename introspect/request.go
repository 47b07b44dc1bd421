package introspect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/fetch"
)

// A response is the server's statement about one token.
type response struct {
	Response
	denial *access.Denial // set if the token is inactive, malformed or not an access token
}

// errTokenCaused marks an error that a single token can cause. errRateLimited marks an error that the
// number of a client's tokens can cause.
var (
	errTokenCaused = errors.New("which this token may have caused")
	errRateLimited = errors.New("too many requests")
)

// Media types of responses, RFC 7662 section 2.2 and RFC 9701 section 5.
const (
	jsonMediaType = "application/json"
	jwtMediaType  = "application/token-introspection+jwt"
)

// requestWithRetry introspects a token, RFC 7662 section 2.1. It retries once if the connection
// failed, or if an idle connection was closed. requestedAt is the time of the request.
func (c *Client) requestWithRetry(ctx context.Context, endpoint *url.URL, raw string, requestedAt time.Time) (*response, error) {
	start := time.Now()
	httpResponse, detail, err := c.post(ctx, endpoint, raw)
	if errors.Is(err, errConnection) && ctx.Err() == nil {
		httpResponse, detail, err = c.post(ctx, endpoint, raw)
	}
	c.metrics.duration.Observe(time.Since(start).Seconds())
	r, err := c.readResponse(ctx, httpResponse, detail, requestedAt, err)
	c.note(err)
	return r, err
}

// readResponse returns what httpResponse says. err is the error of the request.
func (c *Client) readResponse(ctx context.Context, httpResponse *fetch.Response, detail string, requestedAt time.Time, err error) (*response, error) {
	if err != nil {
		return nil, err
	}
	if httpResponse.Status != http.StatusOK {
		return nil, statusError(httpResponse.Status, detail)
	}
	return c.parseResponse(ctx, httpResponse, requestedAt)
}

// statusError returns the error for a response with a status other than 200. detail is the server's
// error text, for the log. Such a response never means that the token is inactive.
func statusError(status int, detail string) error {
	switch {
	case refusesCredentials(status):
		return fmt.Errorf("%w with status %d%s", errCredentialsRefused, status, detail)
	case status == http.StatusTooManyRequests:
		return fmt.Errorf("answered with status %d%s: %w", status, detail, errRateLimited)
	case status >= 400 && status < 500:
		return fmt.Errorf("answered with status %d%s, %w", status, detail, errTokenCaused)
	}
	return fmt.Errorf("answered with status %d%s", status, detail)
}

// endpoint returns the introspection endpoint, from the configuration or the metadata.
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

// post sends the request once. detail is the server's error text, for the log.
func (c *Client) post(ctx context.Context, endpoint *url.URL, raw string) (httpResponse *fetch.Response, detail string, err error) {
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
		return nil, "", errors.New("the endpoint is not a valid URL") // err would have the query of the URL
	}
	request.Header = header
	var reused atomic.Bool
	trace := httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { reused.Store(got.Reused) }}
	httpResponse, err = c.remote.Send(request.WithContext(httptrace.WithClientTrace(ctx, &trace)), authserver.MaxIntrospection)
	var dialing *net.OpError
	switch {
	case errors.Is(err, fetch.ErrTooLarge):
		err = fmt.Errorf("%w, %w", err, errTokenCaused)
	case errors.Is(err, fetch.ErrEncoded):
	case err != nil && (reused.Load() || errors.As(err, &dialing) && dialing.Op == "dial"):
		err = fmt.Errorf("%w: %w", errConnection, err)
	}
	if err == nil && httpResponse.Status != http.StatusOK {
		detail = quoteError(httpResponse, secretsOf(form, header))
	}
	return httpResponse, detail, err
}

// errConnection marks an error that a new connection may avoid. A retry is safe only with fresh
// credentials. net/http's own retry would send the same client assertion twice, and RFC 7523 section
// 3 tells servers to refuse the second use.
var errConnection = errors.New("the connection failed")

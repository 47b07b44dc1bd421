// Package tokenclient fetches access tokens by mutual TLS (RFC 8705 section 2), as a partner's
// application does.
package tokenclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options is what the command token is told.
type Options struct {
	Metadata  string
	Cert, Key string // PEM files
	ClientID  string
	Scope     string
	CA        string // PEM file; "" for the system's authorities
	Timeout   time.Duration
}

// Response is the answer of RFC 6749 section 5.1, as far as it matters here.
type Response struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	Raw         []byte // as the server sent it, without the space around
}

// Fetch asks for a token. Where the server refuses, the error is a [*refusedError].
func Fetch(ctx context.Context, f Options) (Response, error) {
	asked, err := parseMetadataURL(f.Metadata)
	if err != nil {
		return Response{}, &UsageError{fmt.Errorf("--metadata: %w", err)}
	}
	if f.Timeout <= 0 {
		return Response{}, &UsageError{errors.New("--timeout: must be longer than nothing")}
	}
	client, err := New(f)
	if err != nil {
		return Response{}, err
	}
	defer client.HTTP.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()

	endpoint, err := client.discover(ctx, asked)
	if err != nil {
		return Response{}, err
	}
	return client.token(ctx, endpoint, f.ClientID, f.Scope)
}

// token asks endpoint for the grant client_credentials, RFC 6749 section 4.4.2,
// with the client_id that RFC 8705 section 2 wants beside the certificate.
func (c *Client) token(ctx context.Context, endpoint *url.URL, clientID, scope string) (Response, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID}}
	if scope != "" {
		form.Set("scope", scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return Response{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, body, err := c.do(req)
	if err != nil {
		return Response{}, err
	}
	if status != http.StatusOK {
		return Response{}, refusal(req.URL, status, body)
	}
	answer := Response{Raw: bytes.TrimSpace(body)}
	if err := decode(req.URL, body, &answer); err != nil {
		return Response{}, err
	}
	// RFC 6749 appendix A.12 for the characters; section 7.1: a token of a type that
	// is not understood must not be used.
	if answer.AccessToken == "" || !printable(answer.AccessToken) {
		return Response{}, fmt.Errorf("asking %s: the answer carries no access token", shown(req.URL))
	}
	if !strings.EqualFold(answer.TokenType, "Bearer") {
		return Response{}, fmt.Errorf("asking %s: the answer carries a token of type %q instead of Bearer", shown(req.URL), answer.TokenType)
	}
	return answer, nil
}

// refusal returns the error for an answer that is no token. Only an OAuth error
// below 500 is a refusal; all else says that the server, or what stands before it,
// did not work.
func refusal(endpoint *url.URL, status int, body []byte) error {
	var answer struct { // RFC 6749 section 5.2
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if decode(endpoint, body, &answer) != nil || answer.Error == "" || !printable(answer.Error) {
		return fmt.Errorf("asking %s: answered with status %d", shown(endpoint), status)
	}
	err := errors.New(answer.Error)
	if answer.Description != "" && printable(answer.Description) {
		err = fmt.Errorf("%s: %s", answer.Error, answer.Description)
	}
	if status >= http.StatusInternalServerError {
		return fmt.Errorf("asking %s: answered with status %d: %w", shown(endpoint), status, err)
	}
	return &RefusedError{err}
}

// printable reports whether s consists of printable ASCII and spaces: the
// characters of RFC 6749 appendix A, and none that a terminal obeys.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// A UsageError says that the options make no sense.
type UsageError struct{ err error }

func (e *UsageError) Error() string { return e.err.Error() }

// A RefusedError is an OAuth error (RFC 6749 section 5.2) of the authorization server.
type RefusedError struct{ err error }

func (e *RefusedError) Error() string { return e.err.Error() }

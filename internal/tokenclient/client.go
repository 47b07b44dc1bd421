// Package tokenclient fetches access tokens with mutual TLS (RFC 8705 section 2), as a partner's
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

// Options name the token to fetch, the authorization server and the client certificate.
type Options struct {
	Metadata  string
	Cert, Key string // PEM files
	ClientID  string
	Scope     string
	CA        string // PEM file; "": the system's authorities
	Timeout   time.Duration
}

// Response is the successful response of a token endpoint (RFC 6749 section 5.1).
type Response struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	Raw         []byte // as received, without surrounding space
}

// Fetch reads the server's metadata and requests a token. It returns a [*UsageError] for invalid
// options and a [*RefusedError] if the server refuses.
func Fetch(ctx context.Context, f Options) (Response, error) {
	asked, err := parseMetadataURL(f.Metadata)
	if err != nil {
		return Response{}, &UsageError{fmt.Errorf("--metadata: %w", err)}
	}
	if f.Timeout <= 0 {
		return Response{}, &UsageError{errors.New("--timeout: must be positive")}
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

// token requests a token with the grant client_credentials (RFC 6749 section 4.4.2). RFC 8705
// section 2 requires client_id beside the certificate.
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
	status, body, err := c.Do(req)
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
	// RFC 6749 appendix A.12 defines the characters of a token. By section 7.1, a client must not use a
	// token of a type that the client does not understand.
	if answer.AccessToken == "" || !printable(answer.AccessToken) {
		return Response{}, fmt.Errorf("calling %s: the response has no access token", shown(req.URL))
	}
	if !strings.EqualFold(answer.TokenType, "Bearer") {
		return Response{}, fmt.Errorf("calling %s: the response has a token of type %q, want Bearer", shown(req.URL), answer.TokenType)
	}
	return answer, nil
}

// refusal returns the error for a response without a token. Only an OAuth error with a status below 500
// is a refusal. Any other response is a failure of the server or of a proxy in front of it.
func refusal(endpoint *url.URL, status int, body []byte) error {
	var answer struct { // RFC 6749 section 5.2
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if decode(endpoint, body, &answer) != nil || answer.Error == "" || !printable(answer.Error) {
		return fmt.Errorf("calling %s: status %d", shown(endpoint), status)
	}
	err := errors.New(answer.Error)
	if answer.Description != "" && printable(answer.Description) {
		err = fmt.Errorf("%s: %s", answer.Error, answer.Description)
	}
	if status >= http.StatusInternalServerError {
		return fmt.Errorf("calling %s: status %d: %w", shown(endpoint), status, err)
	}
	return &RefusedError{err}
}

// printable reports whether s has only printable ASCII and spaces, as RFC 6749 appendix A requires.
// Such text is safe to print, because a terminal interprets none of these characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// A UsageError reports invalid options.
type UsageError struct{ err error }

func (e *UsageError) Error() string { return e.err.Error() }

// A RefusedError is an OAuth error (RFC 6749 section 5.2) of the authorization server.
type RefusedError struct{ err error }

func (e *RefusedError) Error() string { return e.err.Error() }

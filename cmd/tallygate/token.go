package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const tokenHelp = `Token fetches an access token as a partner's application does: it reads the
authorization server's metadata (RFC 8414), authenticates with the client certificate
(RFC 8705 section 2) and asks for the grant client_credentials. The token comes out
on standard output, and nothing else does.

--metadata takes the issuer identifier, or the URL of its metadata under /.well-known/
(oauth-authorization-server or openid-configuration). The metadata must name the
issuer that was asked for. The token endpoint for mutual TLS (mtls_endpoint_aliases)
is preferred.

Only https is spoken, to the servers named and to no proxy; redirects are not
followed. Exit code 4 says that the authorization server refused.`

// tokenFlags is what the command token is told.
type tokenFlags struct {
	metadata  string
	cert, key string // PEM files
	clientID  string
	scope     string
	ca        string // PEM file; "" for the system's authorities
	timeout   time.Duration
}

func tokenCommand() *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Fetch an access token by mutual TLS",
		Long:  tokenHelp,
		Example: "  tallygate token --metadata https://as.example.com --cert client.pem --key client-key.pem \\\n" +
			"    --client-id northwind-ledger --scope \"accounts:read accounts:write\"",
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.metadata, "metadata", "", "issuer identifier or metadata `URL`")
	flags.StringVar(&f.cert, "cert", "", "PEM `file` with the client certificate and its intermediates")
	flags.StringVar(&f.key, "key", "", "PEM `file` with the private key of --cert")
	flags.StringVar(&f.clientID, "client-id", "", "the application's client `identifier`")
	flags.StringVar(&f.scope, "scope", "", "`scopes` to ask for, with spaces between (default: what the server grants)")
	flags.StringVar(&f.ca, "ca", "", "PEM `file` with the authorities of the server (default: the system's)")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "time for all of it")
	for _, required := range []string{"metadata", "cert", "key", "client-id"} {
		_ = cmd.MarkFlagRequired(required) // errs only for a flag that does not exist
	}
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		token, err := fetchToken(cmd.Context(), f)
		if err != nil {
			return err
		}
		if *format == jsonOutput {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", token.whole)
		} else {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token.AccessToken)
		}
		return err
	}
	return cmd
}

// tokenAnswer is the answer of RFC 6749 section 5.1, as far as it matters here.
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	whole       []byte // as the server sent it, without the space around
}

// fetchToken asks for a token. Its error ends the program with 2 where the flags
// make no sense, with 4 where the server refused, otherwise with 1.
func fetchToken(ctx context.Context, f tokenFlags) (tokenAnswer, error) {
	asked, err := parseMetadataURL(f.metadata)
	if err != nil {
		return tokenAnswer{}, withCode(exitUsage, fmt.Errorf("--metadata: %w", err))
	}
	if f.timeout <= 0 {
		return tokenAnswer{}, withCode(exitUsage, errors.New("--timeout: must be longer than nothing"))
	}
	client, err := newTokenClient(f)
	if err != nil {
		return tokenAnswer{}, err
	}
	defer client.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()

	endpoint, err := client.discover(ctx, asked)
	if err != nil {
		return tokenAnswer{}, err
	}
	return client.token(ctx, endpoint, f.clientID, f.scope)
}

// token asks endpoint for the grant client_credentials, RFC 6749 section 4.4.2,
// with the client_id that RFC 8705 section 2 wants beside the certificate.
func (c *tokenClient) token(ctx context.Context, endpoint *url.URL, clientID, scope string) (tokenAnswer, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID}}
	if scope != "" {
		form.Set("scope", scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return tokenAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, body, err := c.do(req)
	if err != nil {
		return tokenAnswer{}, err
	}
	if status != http.StatusOK {
		return tokenAnswer{}, refusal(req.URL, status, body)
	}
	answer := tokenAnswer{whole: bytes.TrimSpace(body)}
	if err := decode(req.URL, body, &answer); err != nil {
		return tokenAnswer{}, err
	}
	// RFC 6749 appendix A.12 for the characters; section 7.1: a token of a type that
	// is not understood must not be used.
	if answer.AccessToken == "" || !printable(answer.AccessToken) {
		return tokenAnswer{}, fmt.Errorf("asking %s: the answer carries no access token", shown(req.URL))
	}
	if !strings.EqualFold(answer.TokenType, "Bearer") {
		return tokenAnswer{}, fmt.Errorf("asking %s: the answer carries a token of type %q instead of Bearer", shown(req.URL), answer.TokenType)
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
	return withCode(exitRefused, err)
}

// printable reports whether s consists of printable ASCII and spaces: the
// characters of RFC 6749 appendix A, and none that a terminal obeys.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

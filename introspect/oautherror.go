package introspect

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/jsonlimit"
)

// longWord matches a text that may be a token or a secret, or a part of such a text: words of natural
// languages are shorter.
var longWord = regexp.MustCompile(`[^\s"'(),;]{25,}`)

// An oauthError is an error response, RFC 6749 section 5.2.
type oauthError struct {
	Error       facts.Member `json:"error"`
	Description facts.Member `json:"error_description"`
}

// quoteError returns error and error_description of response for the log: each after a colon, on one
// line, truncated, and without the secrets in sent. It returns "" for a response with neither member.
func quoteError(response *fetch.Response, sent []string) string {
	var c oauthError
	if response.MediaType != jsonMediaType || jsonlimit.Check(response.Body) != nil || json.Unmarshal(response.Body, &c) != nil {
		return ""
	}
	var quoted strings.Builder
	for _, member := range []facts.Member{c.Error, c.Description} {
		text, ok := member.Text()
		if !ok || text == "" {
			continue
		}
		for _, secret := range sent {
			text = strings.ReplaceAll(text, secret, "…")
		}
		fmt.Fprintf(&quoted, ": %q", access.Truncate(longWord.ReplaceAllString(text, "…")))
	}
	return quoted.String()
}

// secretsOf returns the parts of a request that must not be quoted: the token and the credentials
// of the gate.
func secretsOf(form url.Values, header http.Header) []string {
	var secrets []string
	for _, name := range []string{"token", "client_secret", "client_assertion"} {
		secrets = append(secrets, form.Get(name))
	}
	_, credentials, _ := strings.Cut(header.Get("Authorization"), " ")
	secrets = append(secrets, credentials)
	if pair, err := base64.StdEncoding.DecodeString(credentials); err == nil { // the credentials of client_secret_basic
		_, encoded, _ := strings.Cut(string(pair), ":")
		secret, _ := url.QueryUnescape(encoded)
		secrets = append(secrets, encoded, secret)
	}
	return slices.DeleteFunc(secrets, func(s string) bool { return s == "" })
}

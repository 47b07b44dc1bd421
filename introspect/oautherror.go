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
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jsonlimit"
)

// longWord matches what could be a token, a secret or a part of one: no word of any
// language is so long.
var longWord = regexp.MustCompile(`[^\s"'(),;]{25,}`)

// A complaint is what a server says of a request that it turns down, RFC 6749 section 5.2.
type oauthError struct {
	Error       facts.Member `json:"error"`
	Description facts.Member `json:"error_description"`
}

// quote returns error and error_description of answer for our own log, after a colon: each
// on one line, clipped, and without anything of what was sent. It returns "" where the
// answer has neither.
func quoteError(answer *authserver.Response, sent []string) string {
	var c oauthError
	if answer.MediaType != jsonMediaType || jsonlimit.Check(answer.Body) != nil || json.Unmarshal(answer.Body, &c) != nil {
		return ""
	}
	var said strings.Builder
	for _, member := range []facts.Member{c.Error, c.Description} {
		text, ok := member.Text()
		if !ok || text == "" {
			continue
		}
		for _, secret := range sent {
			text = strings.ReplaceAll(text, secret, "…")
		}
		fmt.Fprintf(&said, ": %q", access.Truncate(longWord.ReplaceAllString(text, "…")))
	}
	return said.String()
}

// secretsIn returns what must not be quoted of a request with this form and header: the
// token and whatever authenticates the gate.
func secretsOf(form url.Values, header http.Header) []string {
	var secrets []string
	for _, name := range []string{"token", "client_secret", "client_assertion"} {
		secrets = append(secrets, form.Get(name))
	}
	_, credentials, _ := strings.Cut(header.Get("Authorization"), " ")
	secrets = append(secrets, credentials)
	if pair, err := base64.StdEncoding.DecodeString(credentials); err == nil { // of client_secret_basic
		_, encoded, _ := strings.Cut(string(pair), ":")
		secret, _ := url.QueryUnescape(encoded)
		secrets = append(secrets, encoded, secret)
	}
	return slices.DeleteFunc(secrets, func(s string) bool { return s == "" })
}

package validate

import (
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/ascii"
)

// maxToken bounds an access token in bytes. Bound tokens with many scopes have 2 to 4 KB; common
// servers accept 8 KB in a header field; this is twice as much.
const maxToken = 16 << 10

func errTooLong() error {
	return access.Denyf(access.MalformedToken, "the token is longer than %d bytes", maxToken)
}

// Bearer returns the access token of r, RFC 6750 section 2.1. It reads the Authorization header
// only. Every error wraps an [access.Denial]: [access.NoToken] without a bearer token in the
// header; [access.MalformedRequest] if the header is malformed or repeated, or if the query has a
// token too (RFC 6750 section 2); [access.MalformedToken] for a token of more than 16 KiB.
func Bearer(r *http.Request) (string, error) {
	fields := r.Header["Authorization"]
	switch len(fields) {
	case 0:
		return "", access.Denyf(access.NoToken, "no Authorization header")
	case 1:
	default:
		return "", access.Denyf(access.MalformedRequest, "%d Authorization headers", len(fields))
	}
	credentials, err := bearerCredentials(fields[0])
	if err != nil {
		return "", err
	}
	if r.URL.RawQuery != "" && tokenInQuery(r.URL.RawQuery) {
		return "", access.Denyf(access.MalformedRequest, "a token in the Authorization header and one in the query")
	}
	if len(credentials) > maxToken {
		return "", errTooLong()
	}
	if !isB64token(credentials) {
		return "", access.Denyf(access.MalformedRequest, "the credentials are not one b64token")
	}
	return credentials, nil
}

// bearerCredentials returns the text after the scheme Bearer and at least one space, RFC 9110
// section 11.4.
func bearerCredentials(field string) (string, error) {
	const scheme = "Bearer"
	if field == "" {
		return "", access.Denyf(access.MalformedRequest, "the Authorization header is empty")
	}
	// The scheme is a token and ends before the first character that is not a token character. A
	// longer token that begins with Bearer is another scheme; anything else is a misspelled
	// Bearer.
	end := 0
	for end < len(field) && isTokenCharacter(field[end]) {
		end++
	}
	if !strings.EqualFold(field[:end], scheme) {
		return "", access.Denyf(access.NoToken, "the scheme of the Authorization header is not Bearer")
	}
	credentials := strings.TrimLeft(field[end:], " ")
	if len(credentials) == len(field)-end {
		return "", access.Denyf(access.MalformedRequest, "no space after Bearer")
	}
	return credentials, nil
}

// isTokenCharacter reports whether c is a tchar, RFC 9110 section 5.6.2.
func isTokenCharacter(c byte) bool {
	return ascii.IsAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// isB64token reports whether s is a b64token, RFC 6750 section 2.1.
func isB64token(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !b64tokenBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

// b64tokenBytes are the bytes of a b64token before its padding. The table is for speed: each
// request checks some hundreds of bytes.
var b64tokenBytes = func() (set [256]bool) {
	for c := range len(set) {
		set[c] = ascii.IsAlphanumeric(byte(c)) || strings.IndexByte("-._~+/", byte(c)) >= 0
	}
	return set
}()

// tokenInQuery reports whether query has a parameter access_token, RFC 6750 section 2.3, in any
// case and with any escaping. Like "&", a semicolon separates parameters, because servers differ in
// this.
func tokenInQuery(query string) bool {
	for query != "" {
		end := strings.IndexAny(query, "&;")
		if end < 0 {
			end = len(query)
		}
		name, _, _ := strings.Cut(query[:end], "=")
		if isTokenParameter(name) {
			return true
		}
		query = query[min(end+1, len(query)):]
	}
	return false
}

// isTokenParameter reports whether name decodes to access_token. A malformed escape stands for
// itself, because a lenient parser at the upstream may read it so.
func isTokenParameter(name string) bool {
	const want = "access_token"
	matched := 0
	for i := 0; i < len(name); i++ {
		c := name[i]
		if decoded, ok := ascii.Escaped(name[i:]); ok {
			c = decoded
			i += 2
		}
		if matched == len(want) || ascii.Lower(c) != want[matched] {
			return false
		}
		matched++
	}
	return matched == len(want)
}

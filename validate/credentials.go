package validate

import (
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/ascii"
)

// maxToken bounds an access token in bytes. Bound tokens with many scopes have 2 to 4 KB, and common
// servers accept 8 KB in a header field; maxToken is 2 × 8 KB.
const maxToken = 16 << 10

func errTooLong() error {
	return access.Denyf(access.MalformedToken, "the token is longer than %d bytes", maxToken)
}

// A Scheme is the scheme of an Authorization header, RFC 9110 section 11.1.
type Scheme uint8

// The schemes of access tokens.
const (
	Bearer  Scheme = iota // RFC 6750 section 2.1
	DPoP                  // RFC 9449 section 7.1
	MTLSPoP               // mtls_pop: clients of Microsoft Entra send certificate-bound tokens under this scheme
)

// schemes are the names of the schemes.
var schemes = [...]string{Bearer: "Bearer", DPoP: "DPoP", MTLSPoP: "mtls_pop"}

// String returns the name of s in the spelling of its definition.
func (s Scheme) String() string { return schemes[s] }

// Credentials are the access token of a request and how the request presents it.
type Credentials struct {
	Scheme Scheme
	Token  string
	Proof  *Proof // nil unless Scheme is DPoP
	Calls  *Calls // gets the calls to authorization servers; nil: the caller does not need them
}

// Credentials returns the credentials of r. It reads the Authorization header, and the DPoP header
// where the scheme is DPoP. Every error wraps an [access.Denial]: [access.NoToken] without a token
// in the header, or with a scheme that is not offered; [access.MalformedRequest] if the header is
// malformed or repeated, or if the query has a token as well (RFC 6750 section 2);
// [access.MalformedToken] for a token of more than 16 KiB.
func (v *Validator) Credentials(r *http.Request) (Credentials, error) {
	fields := r.Header["Authorization"]
	switch len(fields) {
	case 0:
		return Credentials{}, access.Denyf(access.NoToken, "no Authorization header")
	case 1:
	default:
		return Credentials{}, access.Denyf(access.MalformedRequest, "%d Authorization headers", len(fields))
	}
	scheme, token, err := v.split(fields[0])
	if err != nil {
		return Credentials{Scheme: scheme}, err
	}
	if r.URL.RawQuery != "" && tokenInQuery(r.URL.RawQuery) {
		return Credentials{Scheme: scheme}, access.Denyf(access.MalformedRequest, "a token in the Authorization header and one in the query")
	}
	if len(token) > maxToken {
		return Credentials{Scheme: scheme}, errTooLong()
	}
	if !isB64token(token) {
		return Credentials{Scheme: scheme}, access.Denyf(access.MalformedRequest, "the credentials are not one b64token")
	}
	c := Credentials{Scheme: scheme, Token: token}
	if scheme == DPoP {
		c.Proof = newProof(r)
	}
	return c, nil
}

// Offers reports whether v accepts tokens under the scheme.
func (v *Validator) Offers(scheme Scheme) bool { return scheme == Bearer || v.offered[scheme] }

// split returns the scheme of an Authorization header and the text after the scheme and at least
// one space, RFC 9110 section 11.4.
func (v *Validator) split(field string) (Scheme, string, error) {
	if field == "" {
		return Bearer, "", access.Denyf(access.MalformedRequest, "the Authorization header is empty")
	}
	// The scheme ends before the first character that RFC 9110 section 5.6.2 does not allow in a
	// token. A longer name that begins with Bearer is therefore another scheme. A header without a
	// space after an offered scheme is malformed.
	end := 0
	for end < len(field) && isTokenCharacter(field[end]) {
		end++
	}
	scheme, ok := v.schemeNamed(field[:end])
	if !ok {
		return Bearer, "", access.Denyf(access.NoToken, "the scheme of the Authorization header is not Bearer, nor another that the gate offers")
	}
	credentials := strings.TrimLeft(field[end:], " ")
	if len(credentials) == len(field)-end {
		return scheme, "", access.Denyf(access.MalformedRequest, "no space after %s", scheme)
	}
	return scheme, credentials, nil
}

// schemeNamed returns the offered scheme with that name in any case.
func (v *Validator) schemeNamed(name string) (Scheme, bool) {
	for scheme, spelled := range schemes {
		if strings.EqualFold(name, spelled) && v.Offers(Scheme(scheme)) {
			return Scheme(scheme), true
		}
	}
	return Bearer, false
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
// case and with any escaping. A semicolon separates parameters like "&", because some servers
// read it as a separator.
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

// isTokenParameter reports whether name decodes to access_token. A malformed escape is read as
// plain text, because a lenient parser at the upstream may read it as plain text.
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

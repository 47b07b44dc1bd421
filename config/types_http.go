package config

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/ascii"
)

// UnmarshalText reads a method. CONNECT would open a tunnel, and TRACE would echo the request with
// the gate's identity headers (RFC 9110 sections 9.3.6, 9.3.8), so both are refused.
func (m *Method) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errMethod
	}
	for _, c := range text {
		if (c < 'A' || c > 'Z') && c != '-' {
			return errMethod
		}
	}
	if s := string(text); s == http.MethodConnect || s == http.MethodTrace {
		return errors.New(s + " cannot be forwarded")
	}
	*m = Method(text)
	return nil
}

var errMethod = errors.New("a method is upper-case letters and hyphens, such as GET")

// UnmarshalText reads "allow", the only value.
func (p *Preflight) UnmarshalText(text []byte) error {
	if Preflight(text) != PreflightAllow {
		return unknownValue(text, []string{string(PreflightAllow)}, "; leave it out to refuse preflights")
	}
	*p = PreflightAllow
	return nil
}

// UnmarshalText reads "allowed", the only value.
func (b *RouteBody) UnmarshalText(text []byte) error {
	if RouteBody(text) != BodyAllowed {
		return unknownValue(text, []string{string(BodyAllowed)}, "; leave it out to refuse a body on all methods but POST, PUT and PATCH")
	}
	*b = BodyAllowed
	return nil
}

// UnmarshalText reads a header name into canonical form. An empty text gives "". Characters other
// than letters, digits and hyphens are refused: some servers read underscores as hyphens, so a client
// could forge a header whose name has an underscore by sending the name with a hyphen.
func (h *HeaderName) UnmarshalText(text []byte) error {
	name, err := canonicalName(text)
	if err != nil {
		return err
	}
	if isReserved(name) {
		return errors.New(name + " is reserved and cannot carry an identity")
	}
	*h = HeaderName(name)
	return nil
}

// UnmarshalText reads the name of a header that a front proxy sets. Unlike the name of an identity
// header, the name can begin with X-Forwarded-.
func (f *FieldName) UnmarshalText(text []byte) error {
	name, err := canonicalName(text)
	if err != nil {
		return err
	}
	if isReserved(name) && !strings.HasPrefix(name, "X-Forwarded-") {
		return errors.New(name + " is reserved and cannot carry a certificate")
	}
	*f = FieldName(name)
	return nil
}

// canonicalName returns a header name in the canonical form of net/http.
func canonicalName(text []byte) (string, error) {
	if len(text) > longestHeaderName {
		return "", errLongHeaderName
	}
	for i, c := range text {
		if !ascii.IsAlphanumeric(c) && (i == 0 || c != '-') {
			return "", errHeaderName
		}
	}
	return http.CanonicalHeaderKey(string(text)), nil
}

// longestHeaderName is twice the length of the longest header names in use.
const longestHeaderName = 64

var errLongHeaderName = errors.New("a header name is at most 64 characters")

var errHeaderName = errors.New("a header name is letters, digits and hyphens, first a letter or digit")

// reservedHeaders lists, in canonical form, the fields that control the message, the connection or
// the credentials of the client, and the fields that the gate sets for other purposes. None of them
// can be an identity header: the gate would remove the field from every request, or overwrite it.
var reservedHeaders = []string{
	"Accept", "Accept-Encoding", "Authorization", "Cache-Control", "Connection",
	"Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "Cookie",
	"Date", "Expect", "Forwarded", "Host", "Http2-Settings", "If-Match",
	"If-None-Match", "Keep-Alive", "Max-Forwards", "Origin", "Range", "Set-Cookie",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "Via",
	"Www-Authenticate", "X-Request-Id",
}

// reservedFamilies are the prefixes of fields that proxies use for other purposes.
var reservedFamilies = []string{"Proxy-", "X-Forwarded-"}

// isReserved reports whether the canonical name cannot be an identity header.
func isReserved(name string) bool {
	inFamily := func(family string) bool { return strings.HasPrefix(name, family) }
	return slices.ContainsFunc(reservedFamilies, inFamily) || slices.Contains(reservedHeaders, name)
}

// reservedWith returns the first reserved header that begins with prefix, or "".
func reservedWith(prefix string) string {
	for _, name := range reservedHeaders {
		if strings.HasPrefix(name, prefix) {
			return name
		}
	}
	return ""
}

package config

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// UnmarshalText reads a method. CONNECT asks for a tunnel and TRACE for an echo of
// the request with our identity headers in it (RFC 9110 sections 9.3.6, 9.3.8);
// neither can be forwarded.
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

// UnmarshalText reads a rule for bodies.
func (b *RouteBody) UnmarshalText(text []byte) error {
	if RouteBody(text) != BodyAllowed {
		return errors.New("expected allowed, got " + strictyaml.Quote(string(text)) + "; leave it out to refuse a body on all methods but POST, PUT and PATCH")
	}
	*b = BodyAllowed
	return nil
}

// UnmarshalText reads a header name into canonical form; empty text is none. A
// server behind us may read underscores as hyphens, so a name with one would have
// a twin; it is an error, and so is every character that is no letter, digit or
// hyphen.
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

// UnmarshalText reads the name of a header that a front proxy sets.
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

// canonicalName returns a header name as net/http spells it.
func canonicalName(text []byte) (string, error) {
	if len(text) > longestHeaderName {
		return "", errLongHeaderName
	}
	for i, c := range text {
		if !isAlphanumeric(c) && (i == 0 || c != '-') {
			return "", errHeaderName
		}
	}
	return http.CanonicalHeaderKey(string(text)), nil
}

// longestHeaderName is well above any name in use.
const longestHeaderName = 64

var errLongHeaderName = errors.New("a header name is at most 64 characters")

var errHeaderName = errors.New("a header name is letters, digits and hyphens, first a letter or digit")

// reservedHeaders lists, in canonical form, the fields that steer the message, the
// connection or the caller's credentials, or that the gate sets besides: one of them
// as an identity header would be removed from every request, or overwritten.
var reservedHeaders = []string{
	"Accept", "Accept-Encoding", "Authorization", "Cache-Control", "Connection",
	"Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "Cookie",
	"Date", "Expect", "Forwarded", "Host", "Http2-Settings", "If-Match",
	"If-None-Match", "Keep-Alive", "Max-Forwards", "Origin", "Range", "Set-Cookie",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "Via",
	"Www-Authenticate", "X-Request-Id",
}

// reservedFamilies are prefixes of fields whose values other products, or we, set for
// purposes of their own.
var reservedFamilies = []string{"Proxy-", "X-Forwarded-"}

// isReserved reports whether the canonical name can be no identity header.
func isReserved(name string) bool {
	inFamily := func(family string) bool { return strings.HasPrefix(name, family) }
	return slices.ContainsFunc(reservedFamilies, inFamily) || slices.Contains(reservedHeaders, name)
}

// reservedWith returns a reserved header that begins with prefix, or "".
func reservedWith(prefix string) string {
	for _, name := range reservedHeaders {
		if strings.HasPrefix(name, prefix) {
			return name
		}
	}
	return ""
}

package proxy

import (
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// requestID is the header with the request's id, in the request to the upstream and in the answer to
// the client. The gate never takes the id from the client, because the id identifies a log line.
const requestID = "X-Request-Id"

// reservedHeaders are the headers in which proxies tell upstreams about the client, its certificate
// or its request. If a client sends such a header, the header is forged. The names are folded.
var reservedHeaders = []string{
	"client-cert", "x-client-cert", "x-client-certificate", "x-arr-clientcert", "wl-proxy-client-cert",
	"forwarded", "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "x-request-id",
	"x-original-url", "x-original-uri", "x-original-method", "x-original-host", "x-rewrite-url",
	"x-http-method", "x-http-method-override", "x-method-override",
	"traceparent", "tracestate", "baggage",
	"authorization", "proxy-authorization",
	"dpop", "dpop-nonce", // RFC 9449: these headers are between the client and the gate
	"proxy", // CGI turns it into the variable HTTP_PROXY, which HTTP clients obey (CVE-2016-5385)
}

// reservedPrefixes are the folded prefixes of further reserved headers.
var reservedPrefixes = []string{
	"x-forwarded-", "x-envoy-", "x-ssl-", "ssl-client-", "x-amzn-mtls-", "client-cert-", "x-client-cert-", "cf-client-cert-",
}

// headerRules say which headers a client may send, and which the gate sets.
type headerRules struct {
	names         config.IdentityHeaders
	policies      map[string]headerPolicy // by folded name; other headers are allowed
	prefixes      []string                // folded prefixes of reserved headers
	authorization bool                    // the upstream gets the access token
}

// A headerPolicy says whether a client may send a header.
type headerPolicy uint8

const (
	allowed      headerPolicy = iota
	allowedExact              // allowed only in its exact spelling
	reserved                  // never allowed
)

// newHeaderRules returns the rules. names are the identity headers. passed is the header in which
// front proxies pass certificates; it may be nil.
func newHeaderRules(names config.IdentityHeaders, passed *config.CertificateHeader) *headerRules {
	f := &headerRules{
		names:         names,
		policies:      map[string]headerPolicy{},
		prefixes:      append([]string{fold(string(names.Prefix))}, reservedPrefixes...),
		authorization: names.ForwardAuthorization,
	}
	for _, name := range hopByHopHeaders {
		f.policies[name] = allowedExact
	}
	for _, name := range reservedHeaders {
		f.policies[name] = reserved
	}
	for _, name := range []config.HeaderName{names.Partner, names.ClientID, names.Scopes, names.Subject, names.Thumbprint, names.Certificate, names.Assertion} {
		f.policies[fold(string(name))] = reserved
	}
	if passed != nil && passed.PEMHeader != "" {
		f.policies[fold(string(passed.PEMHeader))] = reserved
	}
	return f
}

// removeReserved removes the reserved headers and trailers from h.
func (f *headerRules) removeReserved(h http.Header) {
	for name := range h {
		if f.isReserved(strings.TrimPrefix(name, http.TrailerPrefix)) {
			delete(h, name)
		}
	}
}

// longestName is longer than every reserved name. A name that is cut at longestName therefore equals
// no reserved name.
const longestName = 128

// isReserved reports whether a client must not send a header with this name. It compares names as the
// most lenient upstream does: case is ignored, and every character except letters and digits equals a
// hyphen, because CGI maps all these names to the same variable.
func (f *headerRules) isReserved(name string) bool {
	if name == "Authorization" && f.authorization {
		return false
	}
	var buffer [longestName]byte
	folded := appendFolded(buffer[:0], name[:min(len(name), longestName)])
	switch f.policies[string(folded)] {
	case reserved:
		return true
	case allowedExact:
		return strings.ContainsFunc(name, isOddInName)
	case allowed:
	}
	for _, family := range f.prefixes {
		if len(folded) >= len(family) && string(folded[:len(family)]) == family {
			return true
		}
	}
	return false
}

// removeReservedTrailers removes the reserved trailers from h, the header of a response whose body has
// been sent. Most responses have no trailers.
func (f *headerRules) removeReservedTrailers(h http.Header) {
	trailers := h["Trailer"] != nil
	for name := range h {
		trailers = trailers || strings.HasPrefix(name, http.TrailerPrefix)
	}
	if trailers {
		f.removeReserved(h)
	}
}

func fold(name string) string { return string(appendFolded(nil, name)) }

func appendFolded(b []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		default:
			c = '-'
		}
		b = append(b, c)
	}
	return b
}

func isOddInName(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// setIdentityHeaders sets the identity headers of c on h, with exactly one value each, and stores the
// values in room. All values are URL-safe: package config restricts names, the grammar restricts
// scopes, and the subject is percent-encoded.
func (f *headerRules) setIdentityHeaders(h http.Header, c *checkedRequest, room *[maxIdentityHeaders]string) {
	values := room[:0]
	set := func(name, value string) {
		if name != "" {
			values = append(values, value)
			h[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	claims := &c.decision.Claims
	set(string(f.names.Partner), c.decision.Partner)
	set(string(f.names.ClientID), claims.ClientID)
	set(string(f.names.Scopes), joinScopes(claims.Scopes))
	set(string(f.names.Subject), url.PathEscape(claims.Subject))
	set(string(f.names.Thumbprint), c.thumbprint())
	if f.names.Certificate != "" {
		// The value is a byte sequence (RFC 8941 section 3.3.5, RFC 9440 section 2.1).
		set(string(f.names.Certificate), ":"+base64.StdEncoding.EncodeToString(c.certificate.Leaf.Raw)+":")
	}
	if c.assertion != "" {
		set(string(f.names.Assertion), c.assertion)
	}
	set(requestID, c.id)
	// removeReserved has removed the client's own headers with these names.
	if address, _, err := net.SplitHostPort(c.request.RemoteAddr); err == nil {
		set("X-Forwarded-For", address)
	}
	set("X-Forwarded-Host", c.request.Host)
	set("X-Forwarded-Proto", "https")
}

// maxIdentityHeaders bounds the headers that setIdentityHeaders sets.
const maxIdentityHeaders = 11

func joinScopes(scopes []string) string { return strings.Join(scopes, " ") }

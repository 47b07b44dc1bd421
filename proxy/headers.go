package proxy

import (
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// requestID is the header that carries the request's id to the upstream and back
// to the client. A client's own is not taken: the id leads into our log.
const requestID = "X-Request-Id"

// spoken are fields that speak for whoever set them, about the caller, its
// certificate or its call, to somebody behind a proxy. From a client they are
// forgeries, whichever product reads them. In folded form.
var reservedHeaders = []string{
	"client-cert", "x-client-cert", "x-client-certificate", "x-arr-clientcert", "wl-proxy-client-cert",
	"forwarded", "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "x-request-id",
	"x-original-url", "x-original-uri", "x-original-method", "x-original-host", "x-rewrite-url",
	"x-http-method", "x-http-method-override", "x-method-override",
	"traceparent", "tracestate", "baggage",
	"authorization", "proxy-authorization",
	"proxy", // which CGI makes the variable HTTP_PROXY of, and HTTP clients obey (CVE-2016-5385)
}

// spokenFamilies are the same by prefix.
var reservedPrefixes = []string{
	"x-forwarded-", "x-envoy-", "x-ssl-", "ssl-client-", "x-amzn-mtls-", "client-cert-", "x-client-cert-", "cf-client-cert-",
}

// framing fields say where a message ends and what connection it is on. In their
// own spelling net/http has acted on them; a twin with other characters in place of
// the hyphens may still be taken for them by an upstream. In folded form.
var framingHeaders = []string{
	"connection", "content-length", "expect", "http2-settings", "keep-alive",
	"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// fields knows which header fields are ours to set.
type headerRules struct {
	names         config.IdentityHeaders
	policies      map[string]headerPolicy // by folded name; others may pass
	prefixes      []string                // folded prefixes that no client may send
	authorization bool                    // whether the upstream may see the token
}

// standing says who may send a field.
type headerPolicy uint8

const (
	allowed      headerPolicy = iota
	allowedExact              // a client may, in the name's own spelling
	reserved                  // no client may
)

// newFields returns what is ours by names, and what front proxies set by passed, which may
// be nil.
func newHeaderRules(names config.IdentityHeaders, passed *config.CertificateHeader) *headerRules {
	f := &headerRules{
		names:         names,
		policies:      map[string]headerPolicy{},
		prefixes:      append([]string{fold(string(names.Prefix))}, reservedPrefixes...),
		authorization: names.ForwardAuthorization,
	}
	for _, name := range framingHeaders {
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

// clean removes from h every field that equals or resembles one of ours, also one that
// is to be sent as a trailer.
func (f *headerRules) removeReserved(h http.Header) {
	for name := range h {
		if f.isReserved(strings.TrimPrefix(name, http.TrailerPrefix)) {
			delete(h, name)
		}
	}
}

// longestName is longer than any name of ours, so that a name cut there equals none.
const longestName = 128

// forged reports whether a field of this name would speak for us. Names are
// compared as the loosest upstream would: case folded, and every character other
// than a letter or digit taken for a hyphen, since CGI and its heirs make the same
// variable of all of them.
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

// cleanTrailers removes from h, the header of an answer whose body has been sent, the
// trailers that equal or resemble one of ours. Most answers have none.
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

// identify sets our fields on h, exactly one value each. Values are URL-safe:
// names and scopes are so by configuration and grammar, what a token says freely is
// percent-encoded.
func (f *headerRules) setIdentityHeaders(h http.Header, x *exchange) {
	values := x.headerValues[:0]
	set := func(name, value string) {
		if name != "" {
			values = append(values, value)
			h[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	claims := &x.decision.Claims
	set(string(f.names.Partner), x.decision.Partner)
	set(string(f.names.ClientID), claims.ClientID)
	set(string(f.names.Scopes), joinScopes(claims.Scopes))
	set(string(f.names.Subject), url.PathEscape(claims.Subject))
	set(string(f.names.Thumbprint), x.thumbprint())
	if f.names.Certificate != "" {
		// A byte sequence of RFC 8941 section 3.3.5, as RFC 9440 section 2.1 asks.
		set(string(f.names.Certificate), ":"+base64.StdEncoding.EncodeToString(x.certificate.Leaf.Raw)+":")
	}
	if x.assertion != "" {
		set(string(f.names.Assertion), x.assertion)
	}
	set(requestID, x.id)
	// What upstreams of any proxy read; the client's own are gone by now.
	if address, _, err := net.SplitHostPort(x.request.RemoteAddr); err == nil {
		set("X-Forwarded-For", address)
	}
	set("X-Forwarded-Host", x.request.Host)
	set("X-Forwarded-Proto", "https")
}

// ownFields is how many fields identify sets at most.
const maxIdentityHeaders = 11

func joinScopes(scopes []string) string { return strings.Join(scopes, " ") }

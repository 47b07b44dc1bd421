package proxy

import (
	"encoding/base64"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
)

// reservedHeaders are the headers with which proxies tell upstreams about the client, its certificate or its
// request. The gate removes them from requests, because upstreams trust their values. Host and Expect are
// reserved because the gate sets its own. Each name is folded: in lower case, with a hyphen for each
// character that is not a letter or digit.
var reservedHeaders = []string{
	"client-cert", "x-client-cert", "x-client-certificate", "x-arr-clientcert", "wl-proxy-client-cert",
	"forwarded", "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "x-request-id",
	"x-original-url", "x-original-uri", "x-original-method", "x-original-host", "x-rewrite-url",
	"x-http-method", "x-http-method-override", "x-method-override",
	"traceparent", "tracestate", "baggage",
	"authorization", "proxy-authentication-info", "expect", "host",
	"dpop", "dpop-nonce", // RFC 9449: these headers are between the client and the gate
	"proxy", // CGI turns it into the variable HTTP_PROXY, which HTTP clients obey (CVE-2016-5385)
}

// reservedPrefixes are the folded prefixes of further reserved headers.
var reservedPrefixes = []string{
	"x-forwarded-", "x-envoy-", "x-ssl-", "ssl-client-", "x-amzn-mtls-", "client-cert-", "x-client-cert-", "cf-client-cert-",
}

// headerRules say which headers are forwarded, and which the gate sets.
type headerRules struct {
	names         config.IdentityHeaders
	reserved      map[string]bool // folded names of reserved headers
	prefixes      []string        // folded prefixes of reserved headers
	authorization bool            // the upstream gets the access token
}

// newHeaderRules returns the rules. names are the identity headers. passed is the header in which
// front proxies pass certificates; it may be nil.
func newHeaderRules(names config.IdentityHeaders, passed *config.CertificateHeader, correlation config.Correlation) *headerRules {
	f := &headerRules{
		names:         names,
		reserved:      map[string]bool{},
		prefixes:      append([]string{fold(string(names.Prefix))}, reservedPrefixes...),
		authorization: names.ForwardAuthorization,
	}
	for _, name := range slices.Concat(http1.HopByHop[:], reservedHeaders) {
		f.reserved[name] = true
	}
	for _, name := range []config.HeaderName{names.Partner, names.ClientID, names.Scopes, names.Subject, names.Thumbprint, names.Certificate, names.Assertion} {
		f.reserved[fold(string(name))] = true
	}
	if correlation.FAPIInteractionID {
		f.reserved[fold(interactionID)] = true
	}
	if passed != nil && passed.PEMHeader != "" {
		f.reserved[fold(string(passed.PEMHeader))] = true
	}
	return f
}

// removeReserved removes the reserved fields from fields, which it changes.
func (f *headerRules) removeReserved(fields []http1.Field) []http1.Field {
	return slices.DeleteFunc(fields, func(field http1.Field) bool { return f.isReserved(field.Name) })
}

// longestName is longer than every reserved name. A name that is cut at longestName therefore equals
// no reserved name.
const longestName = 128

// isReserved reports whether a header with this name is never forwarded. It compares names as the most
// lenient upstream does: case is ignored, and every character except letters and digits equals a hyphen,
// because CGI maps all these names to the same variable.
func (f *headerRules) isReserved(name string) bool {
	var buffer [longestName]byte
	folded := appendFolded(buffer[:0], name[:min(len(name), longestName)])
	if f.reserved[string(folded)] {
		return true
	}
	for _, family := range f.prefixes {
		if len(folded) >= len(family) && string(folded[:len(family)]) == family {
			return true
		}
	}
	return false
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

// setIdentityHeaders appends the identity headers of c to fields, with exactly one value each. The fields
// must have no reserved header. All values are URL-safe: package config restricts names, the grammar
// restricts scopes, and the subject is percent-encoded.
func (f *headerRules) setIdentityHeaders(fields []http1.Field, c *checkedRequest) []http1.Field {
	set := func(name, value string) {
		if name != "" {
			fields = append(fields, http1.Field{Name: name, Value: value})
		}
	}
	claims := &c.Decision.Claims
	set(string(f.names.Partner), c.Decision.Partner)
	set(string(f.names.ClientID), claims.ClientID)
	set(string(f.names.Scopes), strings.Join(claims.Scopes, " "))
	set(string(f.names.Subject), url.PathEscape(claims.Subject))
	set(string(f.names.Thumbprint), c.Thumbprint())
	if f.names.Certificate != "" {
		// The value is a byte sequence (RFC 8941 section 3.3.5, RFC 9440 section 2.1).
		set(string(f.names.Certificate), ":"+base64.StdEncoding.EncodeToString(c.Certificate.Leaf.Raw)+":")
	}
	if c.assertion != "" {
		set(string(f.names.Assertion), c.assertion)
	}
	return appendRequestHeaders(fields, c)
}

// appendRequestHeaders appends the headers about the request that also a preflight gets.
func appendRequestHeaders(fields []http1.Field, c *checkedRequest) []http1.Field {
	fields = c.appendIDs(fields)
	if address, _, err := net.SplitHostPort(c.Request.RemoteAddr); err == nil {
		fields = append(fields, http1.Field{Name: "X-Forwarded-For", Value: address})
	}
	return append(fields, http1.Field{Name: "X-Forwarded-Host", Value: c.Request.Host}, http1.Field{Name: "X-Forwarded-Proto", Value: "https"})
}

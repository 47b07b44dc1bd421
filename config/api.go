package config

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/urlpath"
)

// API is a named set of routes with one upstream.
type API struct {
	Name Name `yaml:"name" schema:"required"` // unique
	// Hosts are the hosts of the API's requests, without port; at least one. If a host is listed by
	// name, for this API or another API, no wildcard matches this host.
	Hosts    []Host   `yaml:"hosts" schema:"required,nonempty"`
	Upstream Upstream `yaml:"upstream" schema:"required"`
	// Binding says what tokens must be bound to. Default certificate. The client needs a certificate
	// with every Binding.
	Binding Binding `yaml:"binding"`
	// PathEncoding lists spellings of path segments that are refused by default, because servers read
	// them differently (400 path_not_canonical). A segment with such a spelling matches only {name}
	// and /**, as one segment, and is forwarded as received. Optional.
	PathEncoding []PathEncoding `yaml:"path_encoding"`
	// TrailingSlash says whether a path that matches no route may match a route after its trailing
	// slash is removed, or after a trailing slash is added. The path is forwarded as received.
	// Default: exact.
	TrailingSlash TrailingSlash `yaml:"trailing_slash"`
	Routes        []Route       `yaml:"routes" schema:"required,nonempty"` // at least one
}

// PathEncoding is a spelling of path segments that an API allows.
type PathEncoding string

// The values of [PathEncoding].
const (
	AllowEncodedSlash      PathEncoding = "allow_encoded_slash"      // %2F
	AllowSemicolon         PathEncoding = "allow_semicolon"          // ";" and %3B
	AllowEncodedUnreserved PathEncoding = "allow_encoded_unreserved" // an escaped letter or digit, or an escaped -, ., _ or ~
	AllowNonUTF8           PathEncoding = "allow_non_utf8"           // escapes that do not decode to UTF-8
	AllowOuterSpace        PathEncoding = "allow_outer_space"        // %20 at the start or the end of a segment
)

// Spelling returns the spelling that e allows.
func (e PathEncoding) Spelling() urlpath.Spellings {
	return map[PathEncoding]urlpath.Spellings{
		AllowEncodedSlash: urlpath.EncodedSlash, AllowSemicolon: urlpath.Semicolon, AllowEncodedUnreserved: urlpath.EncodedUnreserved,
		AllowNonUTF8: urlpath.NotUTF8, AllowOuterSpace: urlpath.OuterSpace,
	}[e]
}

// TrailingSlash says whether paths with and without a trailing slash are different paths.
type TrailingSlash string

// The values of [TrailingSlash].
const (
	ExactSlash    TrailingSlash = "exact"    // "/a" and "/a/" are two paths
	OptionalSlash TrailingSlash = "optional" // a path that matches no route is tried again with its trailing slash removed, or with a trailing slash added
)

// Route is a set of methods and a path pattern of an API. A request that matches no route is
// refused.
type Route struct {
	Methods []Method        `yaml:"methods" schema:"required,nonempty"` // exact; GET does not imply HEAD
	Path    urlpath.Pattern `yaml:"path" schema:"required"`             // "/accounts/{id}", "/files/**"
	Scopes  []Scope         `yaml:"scopes" schema:"nonempty"`           // a token must have all of these scopes. Optional.
	// Assertion says whether the upstream gets a short-lived JWT about the caller, signed by the
	// gate. It is for an upstream that cannot read the access token.
	Assertion bool `yaml:"assertion"`
	// Upgrade lists the protocols that a client may switch its connection to (RFC 9110 section
	// 7.8). Optional.
	Upgrade []UpgradeProtocol `yaml:"upgrade" schema:"nonempty"`
	// Preflight says whether the gate forwards a CORS preflight, which browsers send without
	// certificate and token. The upstream gets the preflight without identity headers, without its
	// query and without other headers of the client. The gate forwards only the Access-Control
	// headers of the response. Needs the method OPTIONS. Default: a preflight is refused like every
	// request without a certificate.
	Preflight Preflight `yaml:"preflight"`
	// Body says which methods may have a body. Default: POST, PUT and PATCH.
	Body RouteBody `yaml:"body"`
}

// Preflight says whether CORS preflights are forwarded.
type Preflight string

// PreflightAllow forwards the preflights of unknown clients.
const PreflightAllow Preflight = "allow"

// RouteBody says which methods may have a body on a route.
type RouteBody string

// BodyAllowed allows a body with every method. Without BodyAllowed only POST, PUT and PATCH requests
// may have a body, because only these methods define its meaning (RFC 9110 section 9.3, RFC 5789).
const BodyAllowed RouteBody = "allowed"

// UpgradeProtocol is a protocol that a connection can be switched to (RFC 9110 section 7.8).
type UpgradeProtocol string

// WebSocket is RFC 6455. No other protocol is allowed. HTTP/2 in clear text (h2c), for example, would
// tunnel requests past every check.
const WebSocket UpgradeProtocol = "websocket"

// Upstream is the server that the requests to an API are forwarded to.
type Upstream struct {
	URL      *UpstreamURL     `yaml:"url" schema:"required"` // without a path, because the gate forwards the path of the request
	Timeout  time.Duration    `yaml:"timeout"`               // from the end of the request until the header of the response arrives
	Protocol UpstreamProtocol `yaml:"protocol"`              // default http1
	// IdleTimeout is how long a connection to an http1 upstream is kept without a request.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// Requests is the number of concurrent requests to the API. One partner may have at most half of
	// them. Further requests get 503.
	Requests int         `yaml:"requests" schema:"minimum=1"`
	TLS      UpstreamTLS `yaml:"tls"` // only for https
}

// UpstreamURL is an http or https URL, or unix:///path for a socket in the file system.
type UpstreamURL struct{ url.URL }

// longestSocket is the longest path that fits into the 108 bytes of sun_path together with the final
// zero byte: 108 - 1.
const longestSocket = 107

// UnmarshalText reads the URL of an upstream. As for [URL], errors do not quote the text.
func (u *UpstreamURL) UnmarshalText(text []byte) error {
	if !strings.HasPrefix(string(text), "unix:") {
		var plain URL
		if err := plain.UnmarshalText(text); err != nil {
			return err
		}
		u.URL = plain.URL
		return nil
	}
	// The path is not parsed as a URL, because it has no escapes, query or fragment.
	path, ok := strings.CutPrefix(string(text), "unix://")
	if !ok || !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || !isPrintable([]byte(path)) || len(path) > longestSocket {
		return errSocket
	}
	u.URL = url.URL{Scheme: "unix", Path: path}
	return nil
}

var errSocket = errors.New("a socket is unix:// and its absolute path, at most 107 characters, such as unix:///run/accounts.sock")

// Socket returns the path of a socket in the file system, or "" if u names a host.
func (u *UpstreamURL) Socket() string {
	if u.Scheme != "unix" {
		return ""
	}
	return u.Path
}

// UpstreamProtocol is the protocol between the gate and an upstream.
type UpstreamProtocol string

// The values of [UpstreamProtocol]. The gate never falls back to another protocol.
const (
	HTTP1 UpstreamProtocol = "http1" // HTTP/1.1
	H2    UpstreamProtocol = "h2"    // HTTP/2 over TLS
	H2C   UpstreamProtocol = "h2c"   // HTTP/2 in clear text, with prior knowledge (RFC 9113 section 3.3)
)

// UnmarshalText reads a protocol.
func (p *UpstreamProtocol) UnmarshalText(text []byte) error { return oneOf(p, text, HTTP1, H2, H2C) }

// UpstreamTLS says how the gate and an upstream authenticate to each other.
type UpstreamTLS struct {
	Trust       []Path  `yaml:"trust" schema:"nonempty,elements"` // PEM files with anchors; default: the anchors of the system
	ServerName  Host    `yaml:"server_name"`                      // the name that the upstream's certificate must have; default: the host of the URL
	Certificate KeyPair `yaml:"certificate"`                      // the gate's client certificate for the upstream. Optional.
}

func (t *UpstreamTLS) isZero() bool {
	return t.Trust == nil && t.ServerName == "" && t.Certificate == KeyPair{}
}

// UnmarshalText reads a protocol.
func (p *UpgradeProtocol) UnmarshalText(text []byte) error {
	if UpgradeProtocol(text) != WebSocket {
		return unknownValue(text, []string{string(WebSocket)}, "; other protocols would bypass the checks")
	}
	*p = WebSocket
	return nil
}

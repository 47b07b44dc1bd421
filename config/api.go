package config

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// API is a named set of routes with one upstream.
type API struct {
	Name Name `yaml:"name"` // unique
	// Hosts are the names it is served under, without port; at least one. A request whose
	// host is among them by name is none of those that a wildcard stands for.
	Hosts    []Host   `yaml:"hosts"`
	Upstream Upstream `yaml:"upstream"`
	Routes   []Route  `yaml:"routes"` // at least one
}

// Route is one call that an API offers. A request that matches no route is
// refused.
type Route struct {
	Methods []Method        `yaml:"methods"` // exact; GET does not imply HEAD
	Path    urlpath.Pattern `yaml:"path"`    // "/accounts/{id}", "/files/**"
	Scopes  []Scope         `yaml:"scopes"`  // all of them are needed. Optional.
	// Assertion gives the upstream a short-lived JWT of ours about the caller, in place
	// of a token that it cannot read.
	Assertion bool `yaml:"assertion"`
	// Upgrade lists what a caller may switch its connection to (RFC 9110 section 7.8).
	// Optional.
	Upgrade []UpgradeProtocol `yaml:"upgrade"`
	// Body says which methods may carry a body. Default: POST, PUT and PATCH.
	Body RouteBody `yaml:"body"`
}

// RouteBody says which requests on a route may carry a body.
type RouteBody string

// BodyAllowed lets every method carry a body. Without it only POST, PUT and PATCH may, whose
// bodies have a defined meaning (RFC 9110 section 9.3, RFC 5789).
const BodyAllowed RouteBody = "allowed"

// UpgradeProtocol is a protocol that a connection can be switched to (RFC 9110 section 7.8).
type UpgradeProtocol string

// WebSocket is RFC 6455. There is no other: HTTP/2 in clear text (h2c) would be a tunnel
// past every check.
const WebSocket UpgradeProtocol = "websocket"

// Upstream is where an API's requests go.
type Upstream struct {
	URL      *UpstreamURL     `yaml:"url"`      // without path: the path that was matched is the one forwarded
	Timeout  time.Duration    `yaml:"timeout"`  // from when the request is there to the header of its answer
	Protocol UpstreamProtocol `yaml:"protocol"` // default http1
	// Requests is how many of the API's requests may be in hand at once, half of them one
	// partner's at most; further ones are answered with 503.
	Requests int         `yaml:"requests"`
	TLS      UpstreamTLS `yaml:"tls"` // for https only
}

// UpstreamURL is an http or https URL, or unix:///path for a socket in the file system.
type UpstreamURL struct{ url.URL }

// longestSocket is what fits into the 108 bytes of sun_path, with the zero at its end.
const longestSocket = 107

// UnmarshalText reads the URL of an upstream. As with [URL], errors do not quote it.
func (u *UpstreamURL) UnmarshalText(text []byte) error {
	if !strings.HasPrefix(string(text), "unix:") {
		var plain URL
		if err := plain.UnmarshalText(text); err != nil {
			return err
		}
		u.URL = plain.URL
		return nil
	}
	// As it stands: a path in the file system has no escapes, query or fragment.
	path, ok := strings.CutPrefix(string(text), "unix://")
	if !ok || !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || !isPrintable([]byte(path)) || len(path) > longestSocket {
		return errSocket
	}
	u.URL = url.URL{Scheme: "unix", Path: path}
	return nil
}

var errSocket = errors.New("a socket is unix:// and its absolute path, at most 107 characters, such as unix:///run/accounts.sock")

// Socket returns the path of a socket in the file system, "" where u names a host.
func (u *UpstreamURL) Socket() string {
	if u.Scheme != "unix" {
		return ""
	}
	return u.Path
}

// UpstreamProtocol is how an upstream is spoken to.
type UpstreamProtocol string

// The values of [UpstreamProtocol]. None is fallen back to from another.
const (
	HTTP1 UpstreamProtocol = "http1" // HTTP/1.1
	H2    UpstreamProtocol = "h2"    // HTTP/2 over TLS
	H2C   UpstreamProtocol = "h2c"   // HTTP/2 in clear text, with prior knowledge (RFC 9113 section 3.3)
)

// UnmarshalText reads a protocol.
func (p *UpstreamProtocol) UnmarshalText(text []byte) error {
	switch parsed := UpstreamProtocol(text); parsed {
	case HTTP1, H2, H2C:
		*p = parsed
		return nil
	}
	return errors.New("expected http1, h2 or h2c, got " + strictyaml.Quote(string(text)))
}

// UpstreamTLS is how the gate and an upstream know each other.
type UpstreamTLS struct {
	Trust       []Path  `yaml:"trust"`       // PEM anchors; default: the system's
	ServerName  Host    `yaml:"server_name"` // that its certificate must have; default: the URL's host
	Certificate KeyPair `yaml:"certificate"` // what the gate shows there when asked. Optional.
}

func (t *UpstreamTLS) isZero() bool {
	return t.Trust == nil && t.ServerName == "" && t.Certificate == KeyPair{}
}

// UnmarshalText reads a protocol.
func (p *UpgradeProtocol) UnmarshalText(text []byte) error {
	if UpgradeProtocol(text) != WebSocket {
		return errors.New("expected websocket, got " + strictyaml.Quote(string(text)) + "; other protocols would bypass the checks")
	}
	*p = WebSocket
	return nil
}

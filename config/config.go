// Package config is the one typed tree of settings: [Default] fills it, [Load]
// reads a YAML file over the defaults and judges the result. What comes out is
// data that every other package may trust: durations, sizes, URLs, path patterns,
// names and thumbprints are typed values, references resolve, and nothing that
// decides about access is left empty. The package opens only the files it is told
// to decode; certificates and keys stay paths.
package config

import (
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
	"github.com/tallygate/tallygate/internal/urlpath"
)

// Config is the whole file. Its order is that of config.example.yaml.
type Config struct {
	Listener             Listener              `yaml:"listener"`
	AuthorizationServers []AuthorizationServer `yaml:"authorization_servers"` // who may vouch for tokens; at least one
	APIs                 []API                 `yaml:"apis"`                  // at least one
	Partners             Partners              `yaml:"partners"`
	IdentityHeaders      IdentityHeaders       `yaml:"identity_headers"`
	Issuer               *Issuer               `yaml:"issuer"` // our own authorization server. Optional.
	Admin                Admin                 `yaml:"admin"`
	Drain                Drain                 `yaml:"drain"`
	Log                  Log                   `yaml:"log"`

	source strictyaml.Document // the position of each value
}

// Listener is the partners' side: TLS, and nothing else.
type Listener struct {
	Address            Address            `yaml:"address"`        // host:port; an empty host means every address
	ProxyProtocol      *ProxyProtocol     `yaml:"proxy_protocol"` // what comes before TLS. Optional.
	Certificate        ServerCertificate  `yaml:"certificate"`
	MinimumVersion     TLSVersion         `yaml:"minimum_version"` // "1.2" or "1.3"
	ClientCertificates ClientCertificates `yaml:"client_certificates"`
	Limits             Limits             `yaml:"limits"`
}

// ServerCertificate is what a listener shows: exactly one of a certificate in files and
// those that ACME brings.
type ServerCertificate struct {
	Files KeyPair `yaml:"files"`
	ACME  *ACME   `yaml:"acme"`
}

// KeyPair is a certificate chain, leaf first, and its private key, both PEM.
type KeyPair struct {
	Certificate Path `yaml:"certificate"`
	Key         Path `yaml:"key"`
}

// ClientCertificates says which client certificates count, and what becomes of
// the others.
type ClientCertificates struct {
	From CertificateSource `yaml:"from"` // default tls
	// Trust lists PEM files with the anchors of the partners that list none of
	// their own. Optional when every partner lists its own.
	Trust []Path `yaml:"trust"`
	// SelfSigned also takes certificates that chain to no anchor. They count only
	// by a registered thumbprint or, for a partner without anchors, by the
	// thumbprint that the token is bound to (RFC 8705 section 2.2). So do those that
	// are signed by their own key although they have the CA bit, as many tools set it.
	SelfSigned bool `yaml:"self_signed"`
	// OnFailure is what a connection with no certificate, or one that does not
	// count, gets: a 401 that says why, or a TLS alert.
	OnFailure  OnFailure  `yaml:"on_failure"`
	Revocation Revocation `yaml:"revocation"`
	// Header says whose header counts, and which; with FromHeader, and only with it.
	Header *CertificateHeader `yaml:"header"`
}

// Revocation says which revocation lists (RFC 5280 section 5) client certificates, and the
// authorities between them and an anchor, are looked up in.
type Revocation struct {
	Lists []RevocationList `yaml:"lists"` // none: certificates are not looked up
	// Authorities lists PEM files with authorities that sign lists and are no anchors,
	// such as an issuing authority under a root.
	Authorities []Path `yaml:"authorities"`
	// Exempt lists PEM files with authorities that publish no list. Where there are lists,
	// certificates of any other authority without one are of unknown status.
	Exempt    []Path        `yaml:"exempt"`
	Refresh   time.Duration `yaml:"refresh"`    // how often what is at a URL is read
	WhenStale WhenStale     `yaml:"when_stale"` // what a list counts after its next update
}

// RevocationList is where lists are: a file, or an http or https URL. Its text is one of
// both; URLs begin with their scheme.
type RevocationList struct {
	File Path
	URL  *URL
}

// WhenStale is what becomes of certificates whose status cannot be told, since the list of
// their authority is past its next update or has never been read.
type WhenStale string

// The values of [WhenStale].
const (
	RefuseStale WhenStale = "refuse" // 503, or the end of the handshake
	AcceptStale WhenStale = "accept" // go by what is known
)

// OnFailure is what becomes of a connection whose certificate does not count.
type OnFailure string

// The values of [OnFailure].
const (
	Answer    OnFailure = "answer"    // finish the handshake, answer each request with 401
	Handshake OnFailure = "handshake" // end the handshake with an alert
)

// Limits bounds what one listener takes from its peers. The others, the issuer's and the
// admin's, have the same limits, each for itself.
type Limits struct {
	HeaderBytes           Bytes         `yaml:"header_bytes"`            // request line and header together; more is answered with 431
	BodyBytes             Bytes         `yaml:"body_bytes"`              // a request's body; more is answered with 413
	Connections           int           `yaml:"connections"`             // open at once; further ones are closed
	ConnectionsPerAddress int           `yaml:"connections_per_address"` // of them, from one IPv4 address or one /64 of IPv6
	Requests              int           `yaml:"requests"`                // in hand at once, of one partner half at most; further ones are answered with 503
	HandshakeTimeout      time.Duration `yaml:"handshake_timeout"`       // for the TLS handshake
	HeaderTimeout         time.Duration `yaml:"header_timeout"`          // for the header of PROXY protocol, and for each request's
	StallTimeout          time.Duration `yaml:"stall_timeout"`           // for the next bytes of a body, in either direction
	IdleTimeout           time.Duration `yaml:"idle_timeout"`            // for the next request on a connection kept open
}

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

// Partners lists the organisations that may call.
type Partners struct {
	List []Partner `yaml:"list"`
}

// Partner is an organisation.
type Partner struct {
	Name Name `yaml:"name"` // unique
	// Trust lists PEM files with the anchors that this partner's certificates
	// must chain to, compared by key and not through an anchor of another partner.
	// Default: the listener's.
	Trust []Path `yaml:"trust"`
	// InsecureRSA1024Until lets certificates that chain to Trust have RSA keys from 1024 to
	// 2047 bits until the end of that day, the anchors themselves too. Needs Trust. Optional.
	InsecureRSA1024Until Date          `yaml:"insecure_rsa_1024_until"`
	Disabled             bool          `yaml:"disabled"`
	Applications         []Application `yaml:"applications"`
}

// IdentityHeaders names the headers that tell the upstream who calls. Inbound
// headers that equal or resemble one of them, or begin with Prefix, are removed
// from every request. An empty name is not sent.
type IdentityHeaders struct {
	Prefix               HeaderName `yaml:"prefix"`
	Partner              HeaderName `yaml:"partner"`
	ClientID             HeaderName `yaml:"client_id"`
	Scopes               HeaderName `yaml:"scopes"`
	Subject              HeaderName `yaml:"subject"`
	Thumbprint           HeaderName `yaml:"thumbprint"`
	Certificate          HeaderName `yaml:"certificate"`           // RFC 9440 section 2.2; default: not sent
	Assertion            HeaderName `yaml:"assertion"`             // on the routes that ask for it
	ForwardAuthorization bool       `yaml:"forward_authorization"` // let the upstream see the token
}

// Admin is the plain-HTTP listener for probes and metrics.
type Admin struct {
	Address Address `yaml:"address"`
	// Hosts are further names that it is served under, without port and without wildcard. It
	// is always served under addresses, names of one label and names of Kubernetes services.
	Hosts []Host `yaml:"hosts"`
}

// Drain says how the gate stops.
type Drain struct {
	// Delay is how long it goes on as before once /readyz has begun to fail, so that
	// whoever sends it traffic can see that first. In its second half each answer ends its
	// connection.
	Delay   time.Duration `yaml:"delay"`
	Timeout time.Duration `yaml:"timeout"` // for running requests, after the delay; then they are cut
}

// Log is the one log, JSON on standard error.
type Log struct {
	Level   LogLevel   `yaml:"level"`   // debug, info, warn, error
	Granted LogGranted `yaml:"granted"` // at info
}

// LogGranted is which of the requests that were granted, and came to their end, are logged.
// All others are.
type LogGranted string

// The values of [LogGranted].
const (
	LogSample LogGranted = "sample" // one a second of each partner on each route
	LogAll    LogGranted = "all"
)

// Default returns the tree with every default set, before a file is decoded over
// it: what the file then says counts, also an explicit zero. What a list has one of
// for each element, and what is optional as a whole, is filled by setDefaults.
func Default() *Config {
	return &Config{
		Listener: Listener{
			Address:        ":8443",
			MinimumVersion: TLS12,
			ClientCertificates: ClientCertificates{
				From:       FromTLS,
				OnFailure:  Answer,
				Revocation: Revocation{Refresh: 10 * time.Minute, WhenStale: RefuseStale},
			},
			Limits: Limits{
				HeaderBytes: 32 << 10,
				BodyBytes:   10 << 20,
				Connections: 10_000,
				// A tenth: ten addresses must go together to keep all others out.
				ConnectionsPerAddress: 1_000,
				// One for each connection. HTTP/2 could bring 128 times as many.
				Requests:         10_000,
				HandshakeTimeout: 10 * time.Second,
				HeaderTimeout:    10 * time.Second,
				StallTimeout:     30 * time.Second,
				IdleTimeout:      2 * time.Minute,
			},
		},
		IdentityHeaders: IdentityHeaders{
			Prefix:     "Tallygate-",
			Partner:    "Tallygate-Partner",
			ClientID:   "Tallygate-Client-Id",
			Scopes:     "Tallygate-Scopes",
			Subject:    "Tallygate-Subject",
			Thumbprint: "Tallygate-Thumbprint",
			Assertion:  "Tallygate-Assertion",
		},
		// Loopback: probes and metrics are opened to the network on purpose only.
		Admin: Admin{Address: "127.0.0.1:9090"},
		// Kubernetes kills after 30 seconds unless told otherwise; this leaves it five.
		Drain: Drain{Delay: 5 * time.Second, Timeout: 20 * time.Second},
		Log:   Log{Level: LogLevel(slog.LevelInfo), Granted: LogSample},
	}
}

// setDefaults fills the settings that v points to with their defaults, for those
// that occur any number of times; all others are in [Default]. The decoder calls it
// before it decodes over v.
func setDefaults(v any) {
	switch v := v.(type) {
	case *AuthorizationServer:
		*v = defaultServer()
	case *Introspection:
		*v = defaultIntrospection()
	case *ACME:
		*v = defaultACME()
	case *API:
		// As many as idle connections are kept to it.
		*v = API{Upstream: Upstream{Timeout: 30 * time.Second, Protocol: HTTP1, Requests: 256}}
	case *Application:
		*v = Application{Authentication: TLSClientAuth, BoundTokens: true, TokenFormat: JWT}
	case *Issuer:
		*v = Issuer{
			TokenLifetime:    5 * time.Minute,
			MaxTokenLifetime: time.Hour,
			Signing:          Signing{Algorithm: ES256, Rotate: 30 * 24 * time.Hour},
			Limits: IssuerLimits{
				PerClient:  Rate{RequestsPerSecond: 50, Burst: 100},
				PerAddress: Rate{RequestsPerSecond: 100, Burst: 200},
			},
		}
	case *ResourceServer:
		*v = ResourceServer{Authentication: TLSClientAuth}
	}
}

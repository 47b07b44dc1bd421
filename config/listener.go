package config

import (
	"time"

	"github.com/tallygate/tallygate/internal/certname"
)

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

// ACME says how a listener's certificates are obtained and renewed, RFC 8555. Using it
// agrees to the terms of service of the authority behind Directory.
type ACME struct {
	// Domains get a certificate each. A client is shown that of the domain that it asks
	// for, or else that of the first. At least one; no wildcards, no IP addresses.
	Domains   []Host         `yaml:"domains"`
	Email     certname.Email `yaml:"email"`     // where the authority reaches the operator
	Directory *URL           `yaml:"directory"` // of the authority: https; default Let's Encrypt
	// DirectoryTrust lists PEM files with the anchors of the directory's own certificate,
	// for an authority in one's own network. Default: the system's.
	DirectoryTrust []Path `yaml:"directory_trust"`
	Storage        Path   `yaml:"storage"` // a folder of its own: the account, the certificates, their keys
	// HTTPAddress is a listener for HTTP-01 (RFC 8555 section 8.3). Without it the
	// partners' listener proves the domains by TLS-ALPN-01 (RFC 8737). Optional.
	HTTPAddress Address `yaml:"http_address"`
}

// httpAddress returns the address of the listener for HTTP-01, "" for none.
func (a *ACME) httpAddress() Address {
	if a == nil {
		return ""
	}
	return a.HTTPAddress
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

// CertificateSource says where the client certificate of a request comes from.
type CertificateSource string

// The values of [CertificateSource].
const (
	FromTLS    CertificateSource = "tls"    // the gate's own handshake with the client, RFC 8705 section 3
	FromHeader CertificateSource = "header" // a header of a trusted front proxy, RFC 9440
)

// CertificateHeader says how front proxies, which end the clients' TLS, pass the clients'
// certificates on. Nothing else is read, and nobody else is believed.
type CertificateHeader struct {
	Formats        []HeaderFormat `yaml:"formats"`    // those that are read; at least one
	PEMHeader      FieldName      `yaml:"pem_header"` // the header of format pem, and only for it
	TrustedProxies TrustedProxies `yaml:"trusted_proxies"`
}

// HeaderFormat is a way to write a certificate into a header.
type HeaderFormat string

// The values of [HeaderFormat].
const (
	FormatRFC9440 HeaderFormat = "rfc9440" // Client-Cert and Client-Cert-Chain, RFC 9440 section 2
	FormatXFCC    HeaderFormat = "xfcc"    // Envoy's X-Forwarded-Client-Cert, of its last element Cert and Chain
	FormatPEM     HeaderFormat = "pem"     // percent-encoded PEM, or base64 without its first and last line
)

// TrustedProxies names the senders whose headers count: by address, by their own client
// certificate, or by both, and then both are needed. One of them is.
type TrustedProxies struct {
	Addresses    []Network          `yaml:"addresses"` // of the socket's other end, whatever a header or PROXY protocol says
	Certificates *ProxyCertificates `yaml:"certificates"`
}

// ProxyCertificates names front proxies by the certificates that they show to the gate.
type ProxyCertificates struct {
	SANDNS []string `yaml:"san_dns"` // a dNSName of theirs, compared without regard to case; at least one
	Trust  []Path   `yaml:"trust"`   // PEM anchors that they chain to, of no partner; at least one
}

// ProxyProtocol lets load balancers of layer 4 say whom they speak for, by version 2 of
// HAProxy's PROXY protocol in front of TLS. It names addresses for logs and upstreams,
// and gives nobody any right.
type ProxyProtocol struct {
	Trusted []Network `yaml:"trusted"` // whose connections must begin with it; at least one. Others' must not.
}

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

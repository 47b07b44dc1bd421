package config

import (
	"time"

	"github.com/tallygate/tallygate/internal/certname"
)

// Listener is the listener for partners, always with TLS.
type Listener struct {
	Address            Address            `yaml:"address"`        // host:port; an empty host listens on every address
	ProxyProtocol      *ProxyProtocol     `yaml:"proxy_protocol"` // Optional.
	Certificate        ServerCertificate  `yaml:"certificate" schema:"required"`
	MinimumVersion     TLSVersion         `yaml:"minimum_version"` // "1.2" or "1.3"
	ClientCertificates ClientCertificates `yaml:"client_certificates"`
	Limits             Limits             `yaml:"limits"`
}

// ServerCertificate is a listener's own certificate. It comes from files or by ACME.
type ServerCertificate struct {
	Files KeyPair `yaml:"files"`
	ACME  *ACME   `yaml:"acme"`
}

// KeyPair names two PEM files: a certificate chain, leaf first, and its private key.
type KeyPair struct {
	Certificate Path `yaml:"certificate"`
	Key         Path `yaml:"key"`
}

// ACME says how a listener obtains and renews its certificates, RFC 8555. An operator who sets it
// agrees to the terms of service of the authority behind Directory.
type ACME struct {
	// Domains are the names of certificates: the gate obtains one certificate for each. A client gets
	// the certificate of the domain in its SNI, or the certificate of the first domain. At least one;
	// no wildcards, no IP addresses.
	Domains   []Host         `yaml:"domains" schema:"required,nonempty"`
	Email     certname.Email `yaml:"email" schema:"required"` // the operator's address for messages of the authority
	Directory *URL           `yaml:"directory"`               // the authority's directory, https; default Let's Encrypt
	// DirectoryTrust lists PEM files with the anchors for the directory's own certificate. It is for
	// an authority in a private network. Default: the anchors of the system.
	DirectoryTrust []Path `yaml:"directory_trust" schema:"nonempty,elements"`
	Storage        Path   `yaml:"storage" schema:"required,nonempty"` // a separate folder for the account, the certificates and their keys
	// HTTPAddress is the address of a listener for HTTP-01 challenges (RFC 8555 section 8.3). If it
	// is not set, the partners' listener answers TLS-ALPN-01 challenges (RFC 8737). Optional.
	HTTPAddress Address `yaml:"http_address"`
}

// httpAddress returns the address of the listener for HTTP-01, or "" if there is no such listener.
func (a *ACME) httpAddress() Address {
	if a == nil {
		return ""
	}
	return a.HTTPAddress
}

// ClientCertificates says which client certificates are trusted, and how the gate treats connections
// without a trusted certificate.
type ClientCertificates struct {
	From CertificateSource `yaml:"from"` // default tls
	// Trust lists PEM files with anchors for the partners that set no trust. Optional if every
	// partner sets its own trust.
	Trust []Path `yaml:"trust" schema:"elements"`
	// SelfSigned also accepts certificates that chain to no anchor. Such a certificate is trusted
	// only by a registered thumbprint or, for a partner without anchors, by the thumbprint that the
	// token is bound to (RFC 8705 section 2.2). The same applies to a certificate that is signed by
	// its own key and has the CA bit, which many tools set.
	SelfSigned bool `yaml:"self_signed"`
	// OnFailure says what happens on a connection without a trusted certificate: each request gets a
	// 401 with the reason, or the handshake ends with a TLS alert.
	OnFailure  OnFailure  `yaml:"on_failure"`
	Revocation Revocation `yaml:"revocation"`
	// Header names the front proxies, and the header in which they send client certificates. Required
	// with from: header; an error with any other value of from.
	Header *CertificateHeader `yaml:"header"`
}

// Revocation configures the revocation lists (RFC 5280 section 5) for client certificates and for
// the authorities between a client certificate and its anchor.
type Revocation struct {
	Lists []RevocationList `yaml:"lists" schema:"elements"` // if empty, no certificate is checked for revocation
	// Authorities lists PEM files with authorities that sign revocation lists and are not anchors,
	// such as an issuing authority below a root.
	Authorities []Path `yaml:"authorities" schema:"elements"`
	// Exempt lists PEM files with authorities that publish no revocation list. If Lists is not empty,
	// the certificates of any other authority without a list have an unknown status.
	Exempt    []Path        `yaml:"exempt" schema:"elements"`
	Refresh   time.Duration `yaml:"refresh"`    // how often URLs are fetched
	WhenStale WhenStale     `yaml:"when_stale"` // how certificates of unknown status are treated
}

// RevocationList is the name of a file, or an http or https URL, with revocation lists. In YAML it is
// one text. A text with a scheme is a URL.
type RevocationList struct {
	File Path
	URL  *URL
}

// WhenStale says how the gate treats certificates of unknown status. The status is unknown if the
// revocation list of the certificate's authority is past its next update or was never fetched.
type WhenStale string

// The values of [WhenStale].
const (
	RefuseStale WhenStale = "refuse" // answer 503, or end the handshake
	AcceptStale WhenStale = "accept" // use the entries of the last revocation list that was fetched
)

// OnFailure says what happens on a connection without a trusted certificate.
type OnFailure string

// The values of [OnFailure].
const (
	Respond   OnFailure = "respond"   // finish the handshake and answer each request with 401
	Handshake OnFailure = "handshake" // end the handshake with an alert
)

// CertificateSource says where the client certificate of a request comes from.
type CertificateSource string

// The values of [CertificateSource].
const (
	FromTLS    CertificateSource = "tls"    // the gate's own handshake with the client, RFC 8705 section 3
	FromHeader CertificateSource = "header" // a header of a trusted front proxy, RFC 9440
)

// CertificateHeader says how front proxies, which end the clients' TLS, send the clients'
// certificates to the gate. The gate reads certificates from no other header and from no other
// sender.
type CertificateHeader struct {
	Formats        []HeaderFormat `yaml:"formats" schema:"required,nonempty"` // at least one
	PEMHeader      FieldName      `yaml:"pem_header"`                         // the header of format pem; required with format pem, and an error without it
	TrustedProxies TrustedProxies `yaml:"trusted_proxies" schema:"required"`
	// ForwardedHost says that X-Forwarded-Host names the host and port that a client called. They are
	// compared with the htu of DPoP proofs (RFC 9449 section 4.3). The front proxy must set or remove
	// the header in every request.
	ForwardedHost bool `yaml:"forwarded_host"`
}

// HeaderFormat is the format of a certificate in a header.
type HeaderFormat string

// The values of [HeaderFormat].
const (
	FormatRFC9440 HeaderFormat = "rfc9440" // Client-Cert and Client-Cert-Chain, RFC 9440 section 2
	FormatXFCC    HeaderFormat = "xfcc"    // Cert and Chain in the last element of Envoy's X-Forwarded-Client-Cert
	FormatPEM     HeaderFormat = "pem"     // percent-encoded PEM, or the base64 of the PEM without its first and last line
)

// TrustedProxies names the senders whose headers are trusted: by address, by client certificate, or
// by both. With both, a sender must match both. At least one of the settings is required.
type TrustedProxies struct {
	Addresses    []Network          `yaml:"addresses"` // addresses of TCP peers; an address in a header or in the PROXY protocol is not used
	Certificates *ProxyCertificates `yaml:"certificates"`
}

// ProxyCertificates identifies front proxies by the client certificates that they present to the
// gate.
type ProxyCertificates struct {
	SANDNS []string `yaml:"san_dns" schema:"required,nonempty,elements"` // dNSNames of the front proxies, compared without regard to case; at least one
	Trust  []Path   `yaml:"trust" schema:"required,nonempty,elements"`   // PEM files with the anchors of the front proxies, which no partner may have; at least one
}

// ProxyProtocol lets layer-4 load balancers send the addresses of clients to the gate, by version 2
// of HAProxy's PROXY protocol before TLS. The addresses are for logs and upstreams; no access is
// granted because of them.
type ProxyProtocol struct {
	// Trusted are the senders whose connections must begin with the protocol; at least one. A
	// connection of any other sender is refused if it begins with the protocol.
	Trusted []Network `yaml:"trusted" schema:"required,nonempty"`
}

// Limits bounds the resources that the clients of one listener can use. The listeners of the issuer
// and the admin listener have the same limits, and each listener has its own counts.
type Limits struct {
	HeaderBytes           Bytes         `yaml:"header_bytes"`                               // request line and header together; a larger header gets 431
	BodyBytes             Bytes         `yaml:"body_bytes"`                                 // the body of a request; a larger body gets 413
	Connections           int           `yaml:"connections" schema:"minimum=1"`             // open connections; further connections are closed
	ConnectionsPerAddress int           `yaml:"connections_per_address" schema:"minimum=1"` // open connections from one IPv4 address or one IPv6 /64; further connections are closed
	Requests              int           `yaml:"requests" schema:"minimum=1"`                // concurrent requests; one partner may have at most half of them; further requests get 503
	HandshakeTimeout      time.Duration `yaml:"handshake_timeout"`                          // bounds the TLS handshake
	HeaderTimeout         time.Duration `yaml:"header_timeout"`                             // bounds the PROXY protocol header, and the header of each request
	StallTimeout          time.Duration `yaml:"stall_timeout"`                              // bounds the wait for the next bytes of a body, from the client and to the client
	IdleTimeout           time.Duration `yaml:"idle_timeout"`                               // bounds the wait for the next request on an open connection
}

package config

import "net/netip"

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

// Network is the IP addresses with one prefix, written 10.0.0.0/8, 2001:db8::/32 or, for
// one address, without its length.
type Network struct{ netip.Prefix }

// Includes reports whether address, without zone and unmapped, is in one of networks.
func Includes(networks []Network, address netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(address) {
			return true
		}
	}
	return false
}

// FieldName is an HTTP field name in canonical form: letters, digits and hyphens.
type FieldName string

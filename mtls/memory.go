package mtls

import (
	"crypto/x509"
	"unsafe"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/crl"
)

// rememberedChains bounds the chains whose path to an anchor is remembered, for five
// minutes each.
const maxCachedChains = 16 << 10

// rememberedHeaders bounds the certificates in headers of front proxies that are remembered.
// A parsed one takes about 6 KiB.
const maxCachedHeaders = 4 << 10

// owner returns in whose share of the memory p is remembered: that of one of the anchors
// that it leads to. p leads to one.
func (p *verification) owner() string { return string(p.anchors[0][:]) }

// bytes returns how much memory p takes.
func (p *verification) bytes() int {
	return int(unsafe.Sizeof(*p)) + len(p.anchors)*int(unsafe.Sizeof(access.AnchorKey{})) +
		len(p.chains)*int(unsafe.Sizeof(verifiedChain{})) + p.certificates()*int(unsafe.Sizeof(crl.Certificate{}))
}

// bytes returns how much memory c takes, at most, where nothing else holds its certificate.
func (c *connection) bytes() int {
	return int(unsafe.Sizeof(*c)+unsafe.Sizeof(*c.client)) + c.verification.bytes() + certificateBytes(c.client.Leaf)
}

// certificateBytes returns how much memory a parsed certificate takes at most: itself, its
// DER, all texts in it twice, and 176 bytes for each name, extension and the like. A
// URI of five bytes takes the most of these, a [url.URL] of 144 bytes and its parts.
func certificateBytes(c *x509.Certificate) int {
	parts := len(c.Subject.Names) + len(c.Issuer.Names) + len(c.Extensions) + len(c.UnhandledCriticalExtensions) +
		len(c.DNSNames) + len(c.EmailAddresses) + len(c.IPAddresses) + len(c.URIs) +
		len(c.ExtKeyUsage) + len(c.UnknownExtKeyUsage) + len(c.Policies) + len(c.PolicyIdentifiers) + len(c.PolicyMappings) +
		len(c.OCSPServer) + len(c.IssuingCertificateURL) + len(c.CRLDistributionPoints) +
		len(c.PermittedDNSDomains) + len(c.ExcludedDNSDomains) + len(c.PermittedIPRanges) + len(c.ExcludedIPRanges) +
		len(c.PermittedEmailAddresses) + len(c.ExcludedEmailAddresses) + len(c.PermittedURIDomains) + len(c.ExcludedURIDomains)
	return int(unsafe.Sizeof(*c)) + 3*len(c.Raw) + 176*parts
}

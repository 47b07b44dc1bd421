package mtls

import (
	"crypto/x509"
	"unsafe"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/crl"
)

// maxCachedChains bounds the cached verifications.
const maxCachedChains = 16 << 10

// maxCachedHeaders bounds the cached certificates from headers of front proxies. A parsed certificate
// takes about 6 KiB.
const maxCachedHeaders = 4 << 10

// owner returns the first anchor of v. v is charged to the share of the cache of this anchor. v must
// have an anchor.
func (v *verification) owner() string { return string(v.anchors[0][:]) }

// bytes returns the memory that v takes.
func (v *verification) bytes() int {
	return int(unsafe.Sizeof(*v)) + len(v.anchors)*int(unsafe.Sizeof(access.AnchorKey{})) +
		len(v.chains)*int(unsafe.Sizeof(verifiedChain{})) + v.certificates()*int(unsafe.Sizeof(crl.Certificate{}))
}

// bytes returns the most memory that c and its certificate take.
func (c *connection) bytes() int {
	return int(unsafe.Sizeof(*c)+unsafe.Sizeof(*c.client)) + c.verification.bytes() + certificateBytes(c.client.Leaf)
}

// certificateBytes returns the most memory that a parsed certificate takes: the struct, its DER, all
// texts in the DER twice, and 176 bytes for each name, extension and similar part. The largest such
// part is a URI of five bytes, which takes a [url.URL] of 144 bytes and its parts.
func certificateBytes(c *x509.Certificate) int {
	parts := len(c.Subject.Names) + len(c.Issuer.Names) + len(c.Extensions) + len(c.UnhandledCriticalExtensions) +
		len(c.DNSNames) + len(c.EmailAddresses) + len(c.IPAddresses) + len(c.URIs) +
		len(c.ExtKeyUsage) + len(c.UnknownExtKeyUsage) + len(c.Policies) + len(c.PolicyIdentifiers) + len(c.PolicyMappings) +
		len(c.OCSPServer) + len(c.IssuingCertificateURL) + len(c.CRLDistributionPoints) +
		len(c.PermittedDNSDomains) + len(c.ExcludedDNSDomains) + len(c.PermittedIPRanges) + len(c.ExcludedIPRanges) +
		len(c.PermittedEmailAddresses) + len(c.ExcludedEmailAddresses) + len(c.PermittedURIDomains) + len(c.ExcludedURIDomains)
	return int(unsafe.Sizeof(*c)) + 3*len(c.Raw) + 176*parts
}

package explain

import (
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
)

// A Certificate describes an X.509 certificate.
type Certificate struct {
	Source     string    `json:"source"`
	Thumbprint string    `json:"x5t#S256"`
	Hex        string    `json:"sha256"`
	Subject    string    `json:"subject"`
	Issuer     string    `json:"issuer"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	Names      []string  `json:"names"` // subject alternative names with their type: DNS:, URI:, IP:, email:

	// The settings that register the certificate; set by thumbprint --all.
	Registrable []CertificateName `json:"registrable,omitempty"`
}

// A CertificateName is a setting that registers a certificate.
type CertificateName struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// CertificateNames returns all settings that register cert: its names, and its thumbprint in both
// encodings.
func CertificateNames(cert *x509.Certificate) []CertificateName {
	var out []CertificateName
	for _, name := range certname.List(cert) {
		out = append(out, CertificateName{name.Key, name.Value})
	}
	thumbprint := access.ThumbprintOf(cert)
	return append(out, CertificateName{"thumbprints", thumbprint.String()}, CertificateName{"thumbprints", thumbprint.Hex()})
}

// yaml returns r as a line of YAML. The value is quoted as in Go, which is valid YAML. The quoting also
// protects the terminal from control characters, because the creator of the certificate chose the
// value.
func (r CertificateName) yaml() string {
	value := strconv.Quote(r.Value)
	if r.Key == "thumbprints" {
		value = "[" + value + "]"
	}
	return r.Key + ": " + value
}

func NewCertificate(source string, cert *x509.Certificate) Certificate {
	thumbprint := access.ThumbprintOf(cert)
	c := Certificate{
		Source:     source,
		Thumbprint: thumbprint.String(),
		Hex:        thumbprint.Hex(),
		Subject:    cert.Subject.String(),
		Issuer:     cert.Issuer.String(),
		NotBefore:  cert.NotBefore,
		NotAfter:   cert.NotAfter,
		Names:      []string{},
	}
	for _, name := range cert.DNSNames {
		c.Names = append(c.Names, "DNS:"+name)
	}
	for _, uri := range cert.URIs {
		c.Names = append(c.Names, "URI:"+uri.String())
	}
	for _, ip := range cert.IPAddresses {
		c.Names = append(c.Names, "IP:"+ip.String())
	}
	for _, address := range cert.EmailAddresses {
		c.Names = append(c.Names, "email:"+address)
	}
	return c
}

// Text returns c as text.
func (c *Certificate) Text() string {
	if c.Registrable == nil {
		return fmt.Sprintf("x5t#S256  %s\nsha256    %s\n", c.Thumbprint, c.Hex)
	}
	var b strings.Builder
	for _, r := range c.Registrable {
		b.WriteString(r.yaml() + "\n")
	}
	return b.String()
}

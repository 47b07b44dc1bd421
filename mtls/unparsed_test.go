package mtls

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// unparsed returns the DER of a certificate by ca that crypto/x509 refuses because of extensions.
func unparsed(t *testing.T, ca *testpki.Pair, extensions ...pkix.Extension) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "p"}, ExtraExtensions: extensions,
	}
	leaf := ca.Leaf("p")
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, leaf.Cert.PublicKey, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("crypto/x509 parses the certificate, want an error")
	}
	return der
}

// A certificate in a header that crypto/x509 cannot parse is refused with 401 and its fault, quotes
// nothing of the certificate, and is never granted, wherever it stands.
func TestUnparsedCertificateInHeader(t *testing.T) {
	northwind := testpki.NewCA("Northwind Root")
	p := northwind.Leaf("p")
	extension := func(id asn1.ObjectIdentifier, value ...byte) pkix.Extension {
		return pkix.Extension{Id: id, Value: value}
	}
	san, constraints, usage := asn1.ObjectIdentifier{2, 5, 29, 17}, asn1.ObjectIdentifier{2, 5, 29, 19}, asn1.ObjectIdentifier{2, 5, 29, 15}
	private := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 1}
	trust := loadFronted(t, fronting(config.FormatRFC9440, config.FormatPEM), northwind)
	for name, der := range map[string][]byte{
		"an extension twice":            unparsed(t, northwind, extension(private, 5, 0), extension(private, 5, 0)),
		"a dNSName that is not ASCII":   unparsed(t, northwind, extension(san, 0x30, 4, 0x82, 2, 0xC3, 0xBC)),
		"a URI with a control":          unparsed(t, northwind, extension(san, 0x30, 6, 0x86, 4, 'a', ':', 0x7F, 'x')),
		"an IP address of three bytes":  unparsed(t, northwind, extension(san, 0x30, 5, 0x87, 3, 1, 2, 3)),
		"broken basic constraints":      unparsed(t, northwind, extension(constraints, 4, 1, 0)),
		"a key usage that is no string": unparsed(t, northwind, extension(usage, 2, 1, 1)),
		"an empty sequence":             {0x30, 0},
	} {
		text := base64.StdEncoding.EncodeToString(der)
		good := ":" + b64(p.Cert) + ":"
		for where, lines := range map[string][]string{
			"alone":               {"Client-Cert: :" + text + ":"},
			"in the chain":        {"Client-Cert: " + good, "Client-Cert-Chain: :" + text + ":"},
			"in another format":   {"X-SSL-Client-Cert: " + text},
			"beside another good": {"Client-Cert: " + good, "X-SSL-Client-Cert: " + text},
		} {
			r := sent("127.0.0.1", nil, lines...)
			got, err := trust.Client(r)
			if reason(err) != access.UntrustedCertificate || got != nil || !strings.Contains(err.Error(), "cannot be parsed") || !strings.Contains(err.Error(), "x509: ") {
				t.Errorf("%s, %s: got %v, %v, want untrusted_certificate with the fault", name, where, got, err)
			}
			if strings.Contains(err.Error(), `"`) {
				t.Errorf("%s, %s: got %q, want nothing quoted", name, where, err)
			}
		}
	}
}

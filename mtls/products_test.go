package mtls

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// The files in testdata/front have the header lines of products as the manuals specify them, for a client
// whose certificate an issuing authority signed. The lines of Apache were received from httpd 2.4.71.
func TestHeadersOfProducts(t *testing.T) {
	const dir = "testdata/front"
	read := func(name string) *x509.Certificate {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	client := access.ThumbprintOf(read("leaf.pem"))
	anchored := func(header config.CertificateHeader, anchor string) *Trust {
		t.Helper()
		header.TrustedProxies = fronting().TrustedProxies
		cfg := &config.Config{}
		cfg.Listener.ClientCertificates.From, cfg.Listener.ClientCertificates.Header = config.FromHeader, &header
		cfg.Partners.List = []config.Partner{{Name: "northwind", Trust: []config.Path{config.Path(filepath.Join(dir, anchor))}}}
		trust, err := LoadTrust(cfg, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return trust
	}
	const noChain, none = access.UntrustedCertificate, access.NoCertificate
	tested := map[string]bool{"leaf.pem": true, "issuing.pem": true, "root.pem": true}
	for _, tt := range []struct {
		file, pemHeader string        // pemHeader is empty for the format rfc9440
		root, issuing   access.Reason // with that authority in trust
	}{
		{"aws-alb-passthrough.txt", "X-Amzn-Mtls-Clientcert", access.Granted, access.Granted},
		{"aws-alb-verify.txt", "X-Amzn-Mtls-Clientcert-Leaf", noChain, access.Granted},
		{"google.txt", "", access.Granted, access.Granted},
		{"google-leaf-in-chain.txt", "", access.Granted, access.Granted},
		{"google-none.txt", "", none, none},
		{"azure-application-gateway.txt", "X-Client-Certificate", noChain, access.Granted},
		{"cloudflare.txt", "", access.Granted, access.Granted},
		{"cloudflare-no-chain.txt", "", noChain, access.Granted},
		{"cloudflare-none.txt", "", none, none},
		{"cloudflare-der.txt", "Cf-Client-Cert-Der-Base64", noChain, access.Granted},
		{"f5.txt", "X-SSL-Client-Cert", noChain, access.Granted},
		{"apache.txt", "X-SSL-Client-Cert", access.Granted, access.Granted},
		{"apache-none.txt", "X-SSL-Client-Cert", none, none},
	} {
		tested[tt.file] = true
		text, err := os.ReadFile(filepath.Join(dir, tt.file))
		if err != nil {
			t.Fatal(err)
		}
		header := config.CertificateHeader{Formats: []config.HeaderFormat{config.FormatRFC9440}}
		if tt.pemHeader != "" {
			header.Formats = []config.HeaderFormat{config.FormatPEM}
			if err := header.PEMHeader.UnmarshalText([]byte(tt.pemHeader)); err != nil {
				t.Errorf("%s: pem_header %s: %v", tt.file, tt.pemHeader, err)
			}
		}
		r := sent("127.0.0.1", nil, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
		for anchor, want := range map[string]access.Reason{"root.pem": tt.root, "issuing.pem": tt.issuing} {
			got, err := anchored(header, anchor).Client(r)
			if reason(err) != want || err == nil && got.Thumbprint != client {
				t.Errorf("%s, trust %s: got %v, %v, want %s", tt.file, anchor, got, err, want)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !tested[file.Name()] {
			t.Errorf("%s is not tested", file.Name())
		}
	}
}

package demo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// demoLife is the lifetime of the demo's certificates: long enough for a day of experiments.
const demoLife = 24 * time.Hour

// A demoPair is a certificate with its key.
type demoPair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// makePKI writes certificates and keys to dir: an authority and a certificate for the gate and for
// each partner. They are valid for life.
func makePKI(dir string, life time.Duration) error {
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, branch := range []struct {
		authority, name string
		leaf            x509.Certificate
	}{
		{"ca", "gate", x509.Certificate{
			Subject: pkix.Name{CommonName: "gate"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}},
		{"northwind-ca", "northwind", x509.Certificate{
			Subject: pkix.Name{CommonName: "ledger", Organization: []string{"Northwind"}}, ExtKeyUsage: client,
			DNSNames: []string{"ledger.northwind.example"},
		}},
		{"borealis-ca", "borealis", x509.Certificate{
			Subject: pkix.Name{CommonName: "sync", Organization: []string{"Borealis"}}, ExtKeyUsage: client,
		}},
	} {
		authority, err := newDemoPair(&x509.Certificate{
			Subject: pkix.Name{CommonName: "Test authority " + branch.authority}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}, nil, life)
		if err != nil {
			return err
		}
		branch.leaf.KeyUsage = x509.KeyUsageDigitalSignature
		leaf, err := newDemoPair(&branch.leaf, authority, life)
		if err != nil {
			return err
		}
		// The authorities' keys are not written: no further certificates are needed.
		if err := writePEM(dir, branch.authority+".pem", "CERTIFICATE", authority.certificate.Raw); err != nil {
			return err
		}
		if err := writePEM(dir, branch.name+".pem", "CERTIFICATE", leaf.certificate.Raw); err != nil {
			return err
		}
		if err := writeKey(dir, branch.name+"-key.pem", leaf.key); err != nil {
			return err
		}
	}
	return nil
}

// newDemoPair makes a key and a certificate, signed by authority, or self-signed if authority is
// nil.
func newDemoPair(template *x509.Certificate, authority *demoPair, life time.Duration) (*demoPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	// 120 random bits: RFC 5280 section 4.1.2.2 allows 20 octets and requires unique serial
	// numbers.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = time.Now().Add(life)
	template.BasicConstraintsValid = true
	parent, signer := template, key
	if authority != nil {
		parent, signer = authority.certificate, authority.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back a certificate: %w", err)
	}
	return &demoPair{certificate, key}, nil
}

func writeKey(dir, name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	return writePEM(dir, name, "PRIVATE KEY", der)
}

func writePEM(dir, name, kind string, der []byte) error {
	content := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return os.WriteFile(filepath.Join(dir, name), content, 0o600)
}

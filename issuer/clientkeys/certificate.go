package clientkeys

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/tallygate/tallygate/config"
)

// readCertificates returns the certificates in a PEM file, at least one. Text
// between the blocks is skipped, as PEM asks; a block of another type, a private key
// above all, is an error. Errors name the file.
func readCertificates(file config.Path) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(string(file))
	if err != nil {
		return nil, err
	}
	var certificates []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%q: expected only certificates, found a block of type %q", file, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%q: parsing certificate %d: %w", file, len(certificates)+1, err)
		}
		certificates = append(certificates, c)
	}
	if bytes.Contains(data, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("%q: certificate %d is cut short or garbled", file, len(certificates)+1)
	}
	if len(certificates) == 0 {
		return nil, fmt.Errorf("%q: %w", file, errNoCertificate)
	}
	return certificates, nil
}

var errNoCertificate = errors.New("no certificate in PEM form found")

// readAnchors returns the anchors in PEM files, or nil, which stands for the
// system's, when no file is named.
func readAnchors(files []config.Path) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, file := range files {
		certificates, err := readCertificates(file)
		if err != nil {
			return nil, fmt.Errorf("reading trust anchors: %w", err)
		}
		for _, c := range certificates {
			pool.AddCert(c)
		}
	}
	return pool, nil
}

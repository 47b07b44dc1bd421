package pemfile

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// A Certificate is one certificate of a PEM text.
type Certificate struct {
	*x509.Certificate
	Place string // name:line, where its block begins
}

var errNoCertificate = errors.New("no certificate in PEM form found")

// ReadCertificates returns the certificates in a file, at least one. A block of another
// type is an error, a private key above all: who may read certificates may not read keys.
func ReadCertificates(file string) ([]Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ParseCertificates(file, text)
}

// ParseCertificates is [ReadCertificates] for the content of the file of that name.
func ParseCertificates(name string, text []byte) ([]Certificate, error) {
	blocks, err := Blocks(name, text)
	if err != nil {
		return nil, err
	}
	var certificates []Certificate
	for _, b := range blocks {
		switch {
		case isKey(b.Type):
			return nil, fmt.Errorf("%s: a private key (%q) where only certificates may be", b.Place, b.Type)
		case b.Type != certificateType:
			return nil, fmt.Errorf("%s: expected only certificates, found a block of type %q", b.Place, b.Type)
		}
		c, err := parseCertificate(b)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, none(name, errNoCertificate)
	}
	return certificates, nil
}

// ReadAuthorities is [ReadCertificates] for a file that may hold only certificates of
// authorities. The error for another certificate names its file and line.
func ReadAuthorities(file string) ([]Certificate, error) {
	certificates, err := ReadCertificates(file)
	if err != nil {
		return nil, err
	}
	for _, c := range certificates {
		if c.Version == 3 && !c.IsCA {
			return nil, fmt.Errorf("%s: the certificate of %s is not an authority; register it by its thumbprint instead", c.Place, c.Subject)
		}
	}
	return certificates, nil
}

// ReadPool returns a pool of the certificates in all of files. Without any file it is nil,
// which crypto/x509 takes for the authorities of the system.
func ReadPool[File ~string](files []File) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, file := range files {
		certificates, err := ReadCertificates(string(file))
		if err != nil {
			return nil, err
		}
		for _, c := range certificates {
			pool.AddCert(c.Certificate)
		}
	}
	return pool, nil
}

const certificateType = "CERTIFICATE"

func parseCertificate(b Block) (Certificate, error) {
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return Certificate{}, fmt.Errorf("%s: parsing the certificate: %w", b.Place, err)
	}
	return Certificate{c, b.Place}, nil
}

func isKey(blockType string) bool { return strings.HasSuffix(blockType, "PRIVATE KEY") }

// none returns err, which tells of what a text lacks, with the name of the text.
func none(name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

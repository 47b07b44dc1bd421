package pemfile

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// A Certificate is a certificate in a PEM text.
type Certificate struct {
	*x509.Certificate
	Position string // file:line of the block's first line
}

var errNoCertificate = errors.New("no certificate in PEM form")

// ReadCertificates returns the certificates in a file, at least one. A block of another type is an
// error. This matters most for private keys, because users who may read certificates may not read keys.
func ReadCertificates(file string) ([]Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ParseCertificates(file, text)
}

// ParseCertificates is [ReadCertificates] for content that was read already. name is the file
// name for errors.
func ParseCertificates(name string, text []byte) ([]Certificate, error) {
	blocks, err := Blocks(name, text)
	if err != nil {
		return nil, err
	}
	var certificates []Certificate
	for _, b := range blocks {
		switch {
		case isKey(b.Type):
			return nil, fmt.Errorf("%s: want only certificates, found a private key (%q)", b.Position, b.Type)
		case b.Type != certificateType:
			return nil, fmt.Errorf("%s: want only certificates, found a block of type %q", b.Position, b.Type)
		}
		c, err := parseCertificate(b)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, missingBlock(name, text, errNoCertificate)
	}
	return certificates, nil
}

// ReadAuthorities is [ReadCertificates] for a file that may hold only certificates of authorities. The
// error for any other certificate names the file and the line.
func ReadAuthorities(file string) ([]Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ParseAuthorities(file, text)
}

// ParseAuthorities is [ReadAuthorities] for content that was read already. name is the file name for
// errors.
func ParseAuthorities(name string, text []byte) ([]Certificate, error) {
	certificates, err := ParseCertificates(name, text)
	if err != nil {
		return nil, err
	}
	for _, c := range certificates {
		if c.Version == 3 && !c.IsCA {
			return nil, fmt.Errorf("%s: the certificate of %s is not an authority; register it by its thumbprint instead", c.Position, c.Subject)
		}
	}
	return certificates, nil
}

// ReadPool returns a pool of the certificates in files. Without files it returns nil, for which
// crypto/x509 uses the system's roots.
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
		return Certificate{}, fmt.Errorf("%s: parsing the certificate: %w", b.Position, err)
	}
	return Certificate{c, b.Position}, nil
}

func isKey(blockType string) bool { return strings.HasSuffix(blockType, "PRIVATE KEY") }

// missing adds name to err, which says what a PEM text lacks. name is the name of the file, or "" for a text
// that is not from a file.
func missing(name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

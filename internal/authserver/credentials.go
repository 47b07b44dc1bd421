package authserver

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync/atomic"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// anchors has the pool of trust anchors, nil for the system's anchors, and the SHA-256 sums of the
// certificates in the pool.
type anchors struct {
	pool *x509.CertPool
	sums map[[sha256.Size]byte]bool
}

// readAnchors returns the anchors in the PEM files, or the system's anchors if files is empty. Errors
// name the file and the line.
func readAnchors(files []config.Path) (anchors, error) {
	if len(files) == 0 {
		return anchors{}, nil
	}
	a := anchors{pool: x509.NewCertPool(), sums: make(map[[sha256.Size]byte]bool)}
	for _, file := range files {
		certificates, err := pemfile.ReadCertificates(string(file))
		if err != nil {
			return anchors{}, fmt.Errorf("reading trust anchors: %w", err)
		}
		for _, c := range certificates {
			a.pool.AddCert(c.Certificate)
			a.sums[sha256.Sum256(c.Raw)] = true
		}
	}
	return a, nil
}

// includes reports whether a has every anchor of others. The certificates of the system's pool
// are unknown, so the system's pool includes only itself.
func (a anchors) includes(others anchors) bool {
	if a.pool == nil || others.pool == nil {
		return a.pool == others.pool
	}
	for sum := range others.sums {
		if !a.sums[sum] {
			return false
		}
	}
	return true
}

// A clientCertificate is the gate's certificate for mutual TLS with the authorization server. The
// files are read again for each connection, independently of reloads, because a renewed
// certificate grants no access to the gate. While the files are unreadable or do not match
// each other, the last good pair is used.
type clientCertificate struct {
	files    config.KeyPair
	lastGood atomic.Pointer[tls.Certificate]
}

// sum returns the SHA-256 of the certificate chain in use, zero without a certificate.
func (c *clientCertificate) sum() (sum [sha256.Size]byte) {
	if pair := c.lastGood.Load(); pair != nil {
		sum = sha256.Sum256(bytes.Join(pair.Certificate, nil))
	}
	return sum
}

func (c *clientCertificate) load() error {
	pair, err := pemfile.ReadKeyPair(c.files.Certificate, c.files.Key)
	if err != nil {
		return fmt.Errorf("reading certificate and key: %w", err)
	}
	c.lastGood.Store(&pair)
	return nil
}

// getCertificate returns the pair even if the server's list of acceptable authorities does not include
// the issuer of the certificate: the configuration demands that the gate presents this certificate.
func (c *clientCertificate) getCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	_ = c.load() // if load fails, the last good pair is used
	return c.lastGood.Load(), nil
}

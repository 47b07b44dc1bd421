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

// anchors are those of PEM files, nil for the system's, and the sums of their DER.
type anchors struct {
	pool *x509.CertPool
	sums map[[sha256.Size]byte]bool
}

// readAnchors returns the anchors in PEM files, the system's when no file is named. Errors
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

// include reports whether each of others is among a. Which the system's are, nobody can
// tell.
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

// A clientPair is the certificate that the gate shows. It is read again for each
// connection, whatever becomes of a reload: it lets nobody in, and one that has ended
// opens nothing. While the files cannot be read, or do not fit each other, the last good
// pair serves.
type clientCertificate struct {
	files    config.KeyPair
	lastGood atomic.Pointer[tls.Certificate]
}

// sum stands for the certificate that is shown, zero for none.
func (p *clientCertificate) sum() (sum [sha256.Size]byte) {
	if pair := p.lastGood.Load(); pair != nil {
		sum = sha256.Sum256(bytes.Join(pair.Certificate, nil))
	}
	return sum
}

func (p *clientCertificate) load() error {
	pair, err := pemfile.ReadKeyPair(p.files.Certificate, p.files.Key)
	if err != nil {
		return fmt.Errorf("reading certificate and key: %w", err)
	}
	p.lastGood.Store(&pair)
	return nil
}

// show returns the pair whatever authorities the server names: it was configured to be
// shown.
func (p *clientCertificate) getCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	_ = p.load() // the last good one serves
	return p.lastGood.Load(), nil
}

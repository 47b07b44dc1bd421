package discovery

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/tallygate/tallygate/config"
)

// anchors are those of PEM files, nil for the system's, and the sums of their DER.
type anchors struct {
	pool *x509.CertPool
	sums map[[sha256.Size]byte]bool
}

// readAnchors returns the anchors in PEM files, the system's when no file is named. A
// file without a certificate is an error.
func readAnchors(files []config.Path) (anchors, error) {
	if len(files) == 0 {
		return anchors{}, nil
	}
	a := anchors{pool: x509.NewCertPool(), sums: make(map[[sha256.Size]byte]bool)}
	for _, file := range files {
		text, err := os.ReadFile(string(file))
		if err != nil {
			return anchors{}, fmt.Errorf("reading trust anchors: %w", err)
		}
		found := false
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			certificate, err := x509.ParseCertificate(block.Bytes)
			if block.Type != "CERTIFICATE" || len(block.Headers) > 0 || err != nil { // as crypto/x509 has it
				continue
			}
			a.pool.AddCert(certificate)
			a.sums[sha256.Sum256(certificate.Raw)] = true
			found = true
		}
		if !found {
			return anchors{}, fmt.Errorf("reading trust anchors %q: no certificate in it", file)
		}
	}
	return a, nil
}

// include reports whether each of others is among a. Which the system's are, nobody can
// tell.
func (a anchors) include(others anchors) bool {
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
type clientPair struct {
	files config.KeyPair
	good  atomic.Pointer[tls.Certificate]
}

// sum stands for the certificate that is shown, zero for none.
func (p *clientPair) sum() (sum [sha256.Size]byte) {
	if pair := p.good.Load(); pair != nil {
		sum = sha256.Sum256(bytes.Join(pair.Certificate, nil))
	}
	return sum
}

func (p *clientPair) load() error {
	pair, err := tls.LoadX509KeyPair(string(p.files.Certificate), string(p.files.Key))
	if err != nil {
		return fmt.Errorf("reading certificate %q and key %q: %w", p.files.Certificate, p.files.Key, err)
	}
	p.good.Store(&pair)
	return nil
}

// show returns the pair whatever authorities the server names: it was configured to be
// shown.
func (p *clientPair) show(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	_ = p.load() // the last good one serves
	return p.good.Load(), nil
}

package discovery

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/tallygate/tallygate/config"
)

// anchors are those of PEM files, nil for the system's, and the sum of the files.
type anchors struct {
	pool *x509.CertPool
	sum  [sha256.Size]byte
}

// readAnchors returns the anchors in PEM files, the system's when no file is named. A
// file without a certificate is an error.
func readAnchors(files []config.Path) (anchors, error) {
	if len(files) == 0 {
		return anchors{}, nil
	}
	a, sum := anchors{pool: x509.NewCertPool()}, sha256.New()
	for _, file := range files {
		pem, err := os.ReadFile(string(file))
		if err != nil {
			return anchors{}, fmt.Errorf("reading trust anchors: %w", err)
		}
		if !a.pool.AppendCertsFromPEM(pem) {
			return anchors{}, fmt.Errorf("reading trust anchors %q: no certificate in it", file)
		}
		sum.Write(pem)
	}
	sum.Sum(a.sum[:0])
	return a, nil
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

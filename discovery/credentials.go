package discovery

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/tallygate/tallygate/config"
)

// readAnchors returns the anchors in PEM files, or nil, which stands for the
// system's, when no file is named. A file without a certificate is an error.
func readAnchors(files []config.Path) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, file := range files {
		pem, err := os.ReadFile(string(file))
		if err != nil {
			return nil, fmt.Errorf("reading trust anchors: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading trust anchors %q: no certificate in it", file)
		}
	}
	return pool, nil
}

// A clientPair is the certificate that the gate shows. It is read again for each
// connection, so that a new one counts without a restart; while the files cannot be
// read, or do not fit each other, the last good pair serves.
type clientPair struct {
	files config.KeyPair
	good  atomic.Pointer[tls.Certificate]
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

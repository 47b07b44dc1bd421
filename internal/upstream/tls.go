package upstream

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// clientTLS reads the files that c names. It returns the TLS settings for the upstream and a digest
// of the contents of all files.
func clientTLS(c *config.UpstreamTLS) (*tls.Config, [sha256.Size]byte, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: string(c.ServerName)}
	sum := sha256.New()
	read := func(file config.Path) ([]byte, error) {
		content, err := os.ReadFile(string(file))
		// The sum includes the length of each file. Without the lengths, two lists of files with the
		// same bytes in total would have the same sum, although a file ends at another byte.
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(content))))
		sum.Write(content)
		return content, err
	}
	if len(c.Trust) > 0 {
		settings.RootCAs = x509.NewCertPool()
	}
	for _, file := range c.Trust {
		content, err := read(file)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("reading anchors: %w", err)
		}
		anchors, err := pemfile.ParseCertificates(string(file), content)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("reading anchors: %w", err)
		}
		for _, a := range anchors {
			settings.RootCAs.AddCert(a.Certificate)
		}
	}
	if c.Certificate != (config.KeyPair{}) {
		certificate, noCertificate := read(c.Certificate.Certificate)
		key, noKey := read(c.Certificate.Key)
		err := errors.Join(noCertificate, noKey)
		var pair tls.Certificate
		if err == nil {
			pair, err = pemfile.ParseKeyPair(c.Certificate.Certificate, certificate, c.Certificate.Key, key)
		}
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("reading certificate and key: %w", err)
		}
		// The upstream gets the configured certificate, even if its list of acceptable authorities
		// lacks the issuer of the certificate.
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return settings, [sha256.Size]byte(sum.Sum(nil)), nil
}

// IsTLSError reports whether err is a failure of TLS: an untrusted certificate, a record that is not
// TLS, an alert, or a server without HTTP/2.
func IsTLSError(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert *net.OpError
	return errors.As(err, &verification) || errors.As(err, &record) || errors.Is(err, errNoHTTP2) ||
		errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error")
}

package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// LoadKeyPair reads the certificate chain and the private key of a listener. Leaf is set in the
// result.
func LoadKeyPair(files config.KeyPair) (tls.Certificate, error) {
	pair, err := pemfile.ReadKeyPair(files.Certificate, files.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading certificate and key: %w", err)
	}
	return pair, nil
}

var protocols = []string{"h2", "http/1.1"}

// ServerConfig returns the TLS configuration of a listener with the certificate pair. It asks every
// client for a certificate. VerifyConnection checks the certificate, also for resumed sessions. It
// ends the handshake if onFailure is Handshake and the certificate is not accepted. The configuration
// lives as long as a connection, so it calls current for the Trust at each check: a reload may
// replace the Trust. handshakes counts the results.
func ServerConfig(current func() *Trust, pair tls.Certificate, minimum config.TLSVersion, onFailure config.OnFailure, handshakes *Handshakes) *tls.Config {
	clientAuth := tls.RequestClientCert
	if onFailure == config.Handshake {
		clientAuth = tls.RequireAnyClientCert
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   uint16(minimum),
		// For TLS 1.2 only suites with forward secrecy and authenticated encryption, RFC 9325 section
		// 4.2. Every suite of TLS 1.3 has both.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: slices.Clone(protocols),
		ClientAuth: clientAuth,
		// VerifyConnection checks the chain against the anchors of each partner. crypto/tls would
		// send the subjects in this pool to every client as the list of acceptable authorities. The
		// list would reveal the partners. A client whose certificate is from another authority would
		// send no certificate, and so would not learn why it is refused. The pool is empty and not
		// nil.
		ClientCAs: x509.NewCertPool(),
		// boundChain limits memory before the client has proved possession of its key;
		// VerifyConnection runs later. In a resumed session boundChain is not called, because it
		// accepted the chain in the full handshake.
		VerifyPeerCertificate: boundChain,
		VerifyConnection: func(state tls.ConnectionState) error {
			trust := current()
			fault := trust.checkConnection(state.PeerCertificates, trust.now())
			refused := onFailure == config.Handshake && fault != nil
			handshakes.verified(state, fault, refused)
			if refused {
				return refusedCertificate(state, fault)
			}
			return nil
		},
	}
}

// A RefusedCertificate is the error of a handshake that VerifyConnection ended. Chain is what the client sent,
// its own certificate first.
type RefusedCertificate struct {
	*access.Denial
	Chain []*x509.Certificate
}

// Unwrap returns the Denial.
func (r *RefusedCertificate) Unwrap() error { return r.Denial }

func refusedCertificate(state tls.ConnectionState, fault error) error {
	refused := &RefusedCertificate{Chain: state.PeerCertificates}
	if !errors.As(fault, &refused.Denial) {
		return fault
	}
	return refused
}

// maxChainBytes bounds the bytes of one chain in a handshake. Chains in use have about 10 KiB.
// maxCertificates bounds the number of certificates.
const maxChainBytes = 64 << 10

var errChainTooLong = &access.Denial{Reason: access.UntrustedCertificate, Err: errors.New("the chain has more than 10 certificates, or more than 64 KiB")}

// boundChain refuses a chain with too many certificates or bytes, for [tls.Config.VerifyPeerCertificate].
func boundChain(chain [][]byte, _ [][]*x509.Certificate) error {
	size := 0
	for _, der := range chain {
		size += len(der)
	}
	if len(chain) > maxCertificates || size > maxChainBytes {
		return errChainTooLong
	}
	return nil
}

package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// LoadKeyPair reads a listener's certificate chain and private key. The returned
// certificate has its Leaf set.
func LoadKeyPair(files config.KeyPair) (tls.Certificate, error) {
	pair, err := pemfile.ReadKeyPair(files.Certificate, files.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading certificate and key: %w", err)
	}
	return pair, nil
}

var protocols = []string{"h2", "http/1.1"}

// ServerConfig returns the TLS settings of a listener that shows pair. Every
// connection is asked for a client certificate, which VerifyConnection has current's
// result judge, on resumed sessions too; with onFailure Handshake, one that does not count
// ends the handshake. A connection keeps its settings as long as it is open, and so they
// hold no Trust, whose place another may have taken long since. handshakes counts what
// becomes of them.
func ServerConfig(current func() *Trust, pair tls.Certificate, minimum config.TLSVersion, onFailure config.OnFailure, handshakes *Handshakes) *tls.Config {
	clientAuth := tls.RequestClientCert
	if onFailure == config.Handshake {
		clientAuth = tls.RequireAnyClientCert
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   uint16(minimum),
		// TLS 1.2 with forward secrecy and authenticated encryption only, RFC 9325
		// section 4.2; TLS 1.3 has no other.
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
		// The chain is judged below, against each partner's own anchors. The pool
		// here would only be sent to every caller as the list of acceptable
		// authorities, which tells strangers who the partners are and keeps a
		// client with the wrong certificate from showing it, and so from being
		// told what is wrong with it. Empty, and never nil.
		ClientCAs: x509.NewCertPool(),
		// Only a bound on what is kept until the client has proved its key, for which
		// VerifyConnection is too late. A resumed session had to pass it before.
		VerifyPeerCertificate: boundChain,
		VerifyConnection: func(state tls.ConnectionState) error {
			fault := current().checkConnection(state.PeerCertificates, time.Now())
			refused := onFailure == config.Handshake && fault != nil
			handshakes.verified(state, fault, refused)
			if refused {
				return fault
			}
			return nil
		},
	}
}

// mostChainBytes bounds the certificates of one chain in a handshake; those in use have some
// 10 KiB. Of certificates there may be longestChain, as in a header.
const maxChainBytes = 64 << 10

var errChainTooLong = &access.Denial{Reason: access.UntrustedCertificate, Err: errors.New("the chain has more than 10 certificates, or more than 64 KiB")}

// boundChain refuses a chain that is too long; it is [tls.Config.VerifyPeerCertificate].
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

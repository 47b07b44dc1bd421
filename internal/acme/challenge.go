package acme

import (
	"crypto/tls"
	"errors"
	"net/http"
	"slices"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// Challenge returns the TLS configuration for a handshake that validates a domain (TLS-ALPN-01, RFC
// 8737), and nil for any other handshake. The returned configuration asks for no client certificate. A
// handshake gets it only if the handshake offers the protocol of RFC 8737 alone and asks for a name for
// which this process has a pending challenge. A nil Manager answers no challenge.
func (a *Manager) Challenge(hello *tls.ClientHelloInfo) *tls.Config {
	if a == nil || !slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
		return nil
	}
	if c, underWay := certmagic.GetACMEChallenge(hello.ServerName); !underWay || c.Type != acme.ChallengeTypeTLSALPN01 {
		return nil
	}
	return a.challenge
}

var errNoChallenge = errors.New("a handshake without a client certificate must negotiate " + acmez.ACMETLS1Protocol)

func (a *Manager) challengeSettings(onChallenge func(tls.ConnectionState)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// net/http has no handler for this protocol and closes the connection.
		NextProtos: []string{acmez.ACMETLS1Protocol},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.client.Load().GetCertificate(hello)
		},
		SessionTicketsDisabled: true, // no session begins or resumes in this handshake
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != acmez.ACMETLS1Protocol {
				return errNoChallenge
			}
			onChallenge(state)
			return nil
		},
	}
}

// ServeHTTP answers pending HTTP-01 challenges (RFC 8555 section 8.3), and any other request with 404.
func (a *Manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, underWay := certmagic.GetACMEChallenge(r.Host)
	if !underWay || c.Type != acme.ChallengeTypeHTTP01 || !certmagic.SolveHTTPChallenge(a.zap, w, r, c.Challenge) {
		http.NotFound(w, r)
	}
}

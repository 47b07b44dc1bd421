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

// Challenge returns the settings for a handshake in which an authority has us prove a
// domain (TLS-ALPN-01, RFC 8737), nil for any other. Nobody shows a client certificate in
// it, and nothing follows it. So it must offer that protocol and no other, and there must
// be a challenge of ours under way for the name. A nil ACME proves nothing.
func (a *Manager) Challenge(hello *tls.ClientHelloInfo) *tls.Config {
	if a == nil || !slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
		return nil
	}
	if c, underWay := certmagic.GetACMEChallenge(hello.ServerName); !underWay || c.Type != acme.ChallengeTypeTLSALPN01 {
		return nil
	}
	return a.challenge
}

var errNoChallenge = errors.New("a handshake without a client certificate is for " + acmez.ACMETLS1Protocol + " alone")

func (a *Manager) challengeSettings(onChallenge func(tls.ConnectionState)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// net/http has no handler for this protocol, and so closes the connection.
		NextProtos: []string{acmez.ACMETLS1Protocol},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.client.Load().GetCertificate(hello)
		},
		SessionTicketsDisabled: true, // no session comes of it, or into it
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != acmez.ACMETLS1Protocol {
				return errNoChallenge
			}
			onChallenge(state)
			return nil
		},
	}
}

// ServeHTTP answers HTTP-01 challenges that are under way (RFC 8555 section 8.3), and
// everything else with 404.
func (a *Manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, underWay := certmagic.GetACMEChallenge(r.Host)
	if !underWay || c.Type != acme.ChallengeTypeHTTP01 || !certmagic.SolveHTTPChallenge(a.zap, w, r, c.Challenge) {
		http.NotFound(w, r)
	}
}

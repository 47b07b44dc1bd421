package gate

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/httpserver"
)

// What crypto/tls says of a client certificate that it takes no part of. It sends an alert
// that tells nothing, so the log has to.
var unusable = []struct{ begins, advice string }{
	{"tls: failed to parse client certificate: ", "a certificate of the client's chain breaks RFC 5280; its authority must issue another, or the client must leave it out of the chain"},
	{"tls: client sent certificate containing RSA key larger than", "the client needs a certificate with a shorter key"},
	{"tls: client certificate contains an unsupported public key", "the client needs a certificate for an RSA, ECDSA or Ed25519 key"},
	{"tls: client certificate used with invalid signature algorithm", "the client signs by an algorithm that it was not offered"},
}

// logUnusableCertificate tells of a handshake that failed because of a client certificate: one line
// for each cause every tellEvery, with the number of such handshakes since the last one. It
// reports whether the certificate was the fault.
func (g *Gate) logUnusableCertificate(listener string, remote net.Addr, fault error) bool {
	var denied *access.Denial
	if errors.As(fault, &denied) { // by on_failure: handshake
		if n := g.certificates.Add(denied.Reason.String(), time.Now()); n > 0 {
			g.warnOfCertificate(listener, remote, n, denied.Error(), "the certificate is refused as on a request; see the reason")
		}
		return true
	}
	if errors.Is(fault, httpserver.ErrHandshakeTooLong) {
		if n := g.certificates.Add(fault.Error(), time.Now()); n > 0 {
			g.warnOfCertificate(listener, remote, n, fault.Error(), "a chain may have 10 certificates and 64 KiB; the client must send fewer")
		}
		return true
	}
	text := fault.Error()
	for _, u := range unusable {
		if !strings.HasPrefix(text, u.begins) {
			continue
		}
		cause, _, _ := strings.Cut(text, `"`) // what is quoted is the client's
		if n := g.certificates.Add(cause, time.Now()); n > 0 {
			g.warnOfCertificate(listener, remote, n, text, u.advice)
		}
		return true
	}
	return false
}

func (g *Gate) warnOfCertificate(listener string, remote net.Addr, n int, detail, advice string) {
	g.log.Warn("handshake ended: client certificate not usable", slog.String("listener", listener), slog.String("remote", remote.String()),
		slog.Int("count", n), slog.String("detail", access.Truncate(detail)), slog.String("advice", advice))
}

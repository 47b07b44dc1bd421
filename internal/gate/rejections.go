package gate

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/internal/logsample"
)

// unusable lists errors by which crypto/tls refuses a client certificate before the gate's own checks.
// The client gets only an alert without a reason, so the log gives the reason.
var unusable = []struct{ begins, advice string }{
	{"tls: failed to parse client certificate: ", "a certificate of the client's chain breaks RFC 5280; its authority must issue another, or the client must leave it out of the chain"},
	{"tls: client sent certificate containing RSA key larger than", "the client needs a certificate with a shorter key"},
	{"tls: client certificate contains an unsupported public key", "the client needs a certificate for an RSA, ECDSA or Ed25519 key"},
	{"tls: client certificate used with invalid signature algorithm", "the client signs by an algorithm that it was not offered"},
}

// logUnusableCertificate logs a handshake that failed because of its client certificate. For each cause
// it writes at most one line in ten seconds, with the number of such handshakes since the last line. It
// reports whether the certificate was the cause.
func (g *Gate) logUnusableCertificate(listener string, remote net.Addr, fault error) bool {
	var denied *access.Denial
	if errors.As(fault, &denied) { // the gate's own check refused, which happens with on_failure: handshake
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
		cause, _, _ := strings.Cut(text, `"`) // the text in quotation marks comes from the client
		if n := g.certificates.Add(cause, time.Now()); n > 0 {
			g.warnOfCertificate(listener, remote, n, text, u.advice)
		}
		return true
	}
	return false
}

func (g *Gate) warnOfCertificate(listener string, remote net.Addr, n int, detail, advice string) {
	g.log.Warn("handshake failed: unusable client certificate", slog.String("listener", listener), slog.String("remote", remote.String()),
		slog.Int("count", n), slog.String("detail", access.Truncate(detail)), slog.String("advice", advice))
}

// malformedAt returns the handler that answers, logs and counts malformed requests at the listener with
// this name. At the partners' listener the proxy does all three, as for all other refusals.
func (g *Gate) malformedAt(name string) func(w http.ResponseWriter, r *http.Request, fault error) {
	if name == PartnersListener {
		return func(w http.ResponseWriter, r *http.Request, fault error) {
			g.current.Load().Proxy.RefuseMalformed(w, r, fault)
		}
	}
	var told logsample.Samplers // samples the log lines by fault
	return func(w http.ResponseWriter, r *http.Request, fault error) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_request","error_description":"The request is malformed."}`+"\n")
		if n := told.Add(fault.Error(), time.Now()); n > 0 {
			g.log.WarnContext(r.Context(), "malformed request", "listener", name, "reason", access.MalformedRequest.String(), "status", http.StatusBadRequest,
				"remote", r.RemoteAddr, "detail", fault.Error(), "count", n)
		}
	}
}

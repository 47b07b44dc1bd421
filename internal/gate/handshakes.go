package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/acme"
	"github.com/tallygate/tallygate/internal/certlog"
	"github.com/tallygate/tallygate/internal/history"
	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/mtls"
)

// A handshakeCause says why a TLS handshake failed, and what the operator can do. It is a value of the label
// reason of tallygate_tls_handshakes_total, and of the log key cause.
type handshakeCause struct{ label, advice string }

var (
	gateNotTrusted      = handshakeCause{"gate_certificate_not_trusted", "the client refuses the gate's certificate: its trust store lacks the authority of listener.certificate, or the certificate lacks the name that the client calls"}
	gateExpired         = handshakeCause{"gate_certificate_expired", "the client takes the gate's certificate for expired: renew it, or compare the clocks"}
	noGateCertificate   = handshakeCause{"no_gate_certificate", "the gate has obtained no certificate yet; see the lines about ACME"}
	noCertificate       = handshakeCause{"no_certificate", "the client sent no certificate; it must be configured with a certificate and its key"}
	refusedCertificate  = handshakeCause{"", "the certificate is refused as on a request; see docs/reasons.md"} // the label is the reason
	unusableCertificate = handshakeCause{"unusable_certificate", "a certificate of the client's chain breaks RFC 5280; its authority must issue another, or the client must leave it out of the chain"}
	hugeKey             = handshakeCause{"unusable_certificate", "the client needs a certificate with a shorter key"}
	unknownKeyType      = handshakeCause{"unusable_certificate", "the client needs a certificate for an RSA, ECDSA or Ed25519 key"}
	wrongSignature      = handshakeCause{"unusable_certificate", "the client signs with an algorithm that it was not offered, or with a key that does not belong to its certificate"}
	chainTooLong        = handshakeCause{"unusable_certificate", "a chain may have 10 certificates and 64 KiB; the client must send fewer"}
	noCommonVersion     = handshakeCause{"no_common_version", "client and gate have no TLS version in common; see listener.minimum_version"}
	noCommonParameters  = handshakeCause{"no_common_parameters", "client and gate have no cipher suite, key exchange or application protocol in common; the gate speaks HTTP/1.1 and HTTP/2"}
	notTLS              = handshakeCause{"not_tls", "the client does not speak TLS; its URL must begin with https"}
	noProxyHeader       = handshakeCause{"proxy_protocol", "the load balancer must send PROXY protocol version 2; see listener.proxy_protocol"}
	handshakeTimeout    = handshakeCause{"timeout", "the client did not finish its handshake within limits.handshake_timeout"}
	closedByClient      = handshakeCause{"closed", "the client closed the connection, as health checks and port scans do"}
	otherAlert          = handshakeCause{"client_alert", "the client ended the handshake with the alert in error; its own log says why"}
	otherFailure        = handshakeCause{"other", "the client breaks the TLS protocol, or bytes were lost"}
)

// handshakeCauses returns the values of the label reason for failed handshakes.
func handshakeCauses() (labels []string) {
	for _, c := range []handshakeCause{
		gateNotTrusted, gateExpired, noGateCertificate, noCertificate, unusableCertificate, noCommonVersion, noCommonParameters,
		notTLS, noProxyHeader, handshakeTimeout, closedByClient, otherAlert, otherFailure,
	} {
		labels = append(labels, c.label)
	}
	return labels
}

// handshakeTexts gives the cause for errors of crypto/tls and go-proxyproto that have no type, by the
// beginning of their text.
var handshakeTexts = []struct {
	begins string
	cause  handshakeCause
}{
	{"tls: client didn't provide a certificate", noCertificate},
	{"tls: failed to parse client certificate: ", unusableCertificate},
	{"tls: client sent certificate containing RSA key larger than", hugeKey},
	{"tls: client certificate contains an unsupported public key", unknownKeyType},
	{"tls: client certificate used with invalid signature algorithm", wrongSignature},
	{"tls: invalid signature by the client certificate", wrongSignature},
	{"tls: client offered only unsupported versions", noCommonVersion},
	{"tls: no cipher suite supported by both client and server", noCommonParameters},
	{"tls: no key exchanges supported by both client and server", noCommonParameters},
	{"tls: client requested unsupported application protocols", noCommonParameters},
	{"proxyproto: ", noProxyHeader},
	{"PROXY protocol: ", noProxyHeader},
}

// Alerts of RFC 8446 section 6.2 and RFC 5246 section 7.2.2.
var handshakeAlerts = map[tls.AlertError]handshakeCause{
	40: noCommonParameters, // handshake_failure
	42: gateNotTrusted,     // bad_certificate
	43: gateNotTrusted,     // unsupported_certificate
	44: gateNotTrusted,     // certificate_revoked
	45: gateExpired,        // certificate_expired
	46: gateNotTrusted,     // certificate_unknown
	48: gateNotTrusted,     // unknown_ca
	70: noCommonVersion,    // protocol_version
	71: noCommonParameters, // insufficient_security
}

// handshakeCauseOf returns why a handshake failed with fault.
func handshakeCauseOf(fault error) handshakeCause {
	var (
		refused *mtls.RefusedCertificate
		denied  *access.Denial
		remote  *net.OpError
		record  tls.RecordHeaderError
		slow    net.Error
		missing *acme.NoCertificateError
	)
	switch {
	case errors.As(fault, &refused):
		return handshakeCause{refused.Reason.String(), refusedCertificate.advice}
	case errors.As(fault, &denied), errors.Is(fault, httpserver.ErrHandshakeTooLong):
		return chainTooLong
	case errors.As(fault, &missing):
		return noGateCertificate
	case errors.As(fault, &record):
		return notTLS
	case errors.As(fault, &remote) && remote.Op == "remote error":
		for alert, cause := range handshakeAlerts {
			if remote.Err.Error() == alert.Error() {
				return cause
			}
		}
		return otherAlert
	}
	text := fault.Error()
	for _, known := range handshakeTexts {
		if strings.HasPrefix(text, known.begins) {
			return known.cause
		}
	}
	switch {
	case errors.Is(fault, os.ErrDeadlineExceeded), errors.As(fault, &slow) && slow.Timeout():
		return handshakeTimeout
	case errors.Is(fault, io.EOF), errors.Is(fault, io.ErrUnexpectedEOF), errors.Is(fault, syscall.ECONNRESET), errors.Is(fault, syscall.EPIPE), errors.Is(fault, net.ErrClosed):
		return closedByClient
	}
	return otherFailure
}

// handshakeFailed counts and logs a failed handshake. For each cause and address it logs at most one warning
// in ten seconds, with the number of such handshakes since the previous warning, because a client may not
// report the cause. A panic is logged as an error.
func (g *Gate) handshakeFailed(listener string, remote net.Addr, fault error) {
	var ours *httpserver.PanicError
	if errors.As(fault, &ours) {
		g.handshakes.Failed(otherFailure.label)
		g.logPanic(listener, remote, ours)
		return
	}
	cause := handshakeCauseOf(fault)
	var refused *mtls.RefusedCertificate
	if !errors.As(fault, &refused) { // package mtls has counted a refused certificate
		g.handshakes.Failed(cause.label)
	}
	if h := g.requests.History; h != nil && cause != closedByClient {
		h.Count(unknownPartner, history.Key{Reason: cause.label, Outcome: history.Handshake}, time.Now())
	}
	level, count := slog.LevelWarn, 1
	if cause == closedByClient {
		level = slog.LevelDebug
	} else if count = g.failedHandshakes.AddFor(cause.label, detailOf(cause, fault), addressOf(remote), time.Now()); count == 0 {
		return
	}
	attributes := []slog.Attr{
		slog.String("listener", listener), slog.String("remote", remote.String()), slog.String("cause", cause.label), slog.Int("count", count),
		slog.String("error", access.Truncate(fault.Error())), slog.String("advice", cause.advice),
	}
	if refused != nil && len(refused.Chain) > 0 {
		attributes = append(attributes, g.refusedCertificate(refused)...)
	}
	g.log.LogAttrs(context.Background(), level, "handshake failed", attributes...)
	if level == slog.LevelWarn {
		g.rememberHandshake(attributes)
	}
}

// unknownPartner is the partner in the history for a handshake that belongs to no known partner. No partner can
// have this name.
const unknownPartner = "unknown"

// rememberHandshake adds a line about a failed handshake to the history.
func (g *Gate) rememberHandshake(attributes []slog.Attr) {
	h, now := g.requests.History, time.Now()
	if h == nil {
		return
	}
	partner, kind := unknownPartner, history.Kind{}
	for _, a := range attributes {
		switch a.Key {
		case "partner":
			partner = a.Value.String()
		case "cause":
			kind.Reason = a.Value.String()
		case "listener":
			kind.API = a.Value.String()
		case "serial":
			kind.Thumbprint = a.Value.String()
		}
	}
	h.Refuse(partner, kind, now, history.FieldsOf(now, "handshake failed", attributes))
}

// refusedCertificate returns the log attributes of a certificate that ended a handshake.
func (g *Gate) refusedCertificate(refused *mtls.RefusedCertificate) []slog.Attr {
	s := g.current.Load()
	caller := s.table.Caller(s.Trust.PresentedChain(refused.Chain))
	attributes := certlog.Attributes(refused.Chain[0])
	if caller.Partner != "" {
		attributes = append(attributes, slog.String("partner", caller.Partner))
	}
	if caller.ClientID != "" {
		attributes = append(attributes, slog.String("application", caller.ClientID))
	}
	return attributes
}

// detailOf returns the fault of an unusable certificate, and "" for other causes. Failures with different
// faults are logged separately, because they need different remedies. Text in quotation marks comes from the
// client, and is left out.
func detailOf(cause handshakeCause, fault error) string {
	if cause.label != unusableCertificate.label {
		return ""
	}
	text, _, _ := strings.Cut(fault.Error(), `"`)
	return text
}

// addressOf returns the address of remote without its port.
func addressOf(remote net.Addr) string {
	host, _, err := net.SplitHostPort(remote.String())
	if err != nil {
		return remote.String()
	}
	return host
}

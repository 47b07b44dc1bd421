package mtls

import (
	"crypto/tls"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
)

// Handshakes counts TLS handshakes by their results. It is safe for concurrent use.
type Handshakes struct {
	total *prometheus.CounterVec
}

// NewHandshakes returns a counter registered with registerer.
func NewHandshakes(registerer prometheus.Registerer) *Handshakes {
	h := &Handshakes{total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_tls_handshakes_total",
		Help: "TLS handshakes by result (completed, refused, failed, challenge), reason why the client certificate is not accepted, and protocol version.",
	}, []string{"result", "reason", "version"})}
	registerer.MustRegister(h.total)
	h.total.WithLabelValues("failed", "other", "")
	return h
}

// verified counts a handshake whose certificate was checked. fault is the result of the check, or nil
// if the certificate is accepted.
func (h *Handshakes) verified(state tls.ConnectionState, fault error, refused bool) {
	result, reason := "completed", "none"
	if refused {
		result = "refused"
	}
	if fault != nil {
		reason = access.ReasonOf(fault).String()
	}
	h.total.WithLabelValues(result, reason, tls.VersionName(state.Version)).Inc()
}

// Challenged counts a handshake that answered an ACME challenge (TLS-ALPN-01, RFC 8737).
func (h *Handshakes) Challenged(state tls.ConnectionState) {
	h.total.WithLabelValues("challenge", "none", tls.VersionName(state.Version)).Inc()
}

// Failed counts a handshake that ended before the check of the certificate, because there was no
// common version, the client did not send TLS, or the connection was closed.
func (h *Handshakes) Failed() { h.total.WithLabelValues("failed", "other", "").Inc() }

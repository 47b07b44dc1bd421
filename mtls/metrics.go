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

// NewHandshakes returns a counter registered with registerer. causes are the values of the label reason
// for [Handshakes.Failed].
func NewHandshakes(registerer prometheus.Registerer, causes ...string) *Handshakes {
	h := &Handshakes{total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_tls_handshakes_total",
		Help: "TLS handshakes by result (completed, refused, failed, challenge), by the reason why the client certificate is not accepted or the handshake failed, and by protocol version.",
	}, []string{"result", "reason", "version"})}
	registerer.MustRegister(h.total)
	for _, cause := range causes {
		h.total.WithLabelValues("failed", cause, "")
	}
	for _, reason := range access.Reasons() {
		if reason.Stage() == access.StageCertificate {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				h.total.WithLabelValues("refused", reason.String(), tls.VersionName(version))
			}
		}
	}
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

// Failed counts a handshake that ended before the check of the certificate, or that the client ended.
// cause says why; it must be from a closed set.
func (h *Handshakes) Failed(cause string) { h.total.WithLabelValues("failed", cause, "").Inc() }

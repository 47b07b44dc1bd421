package mtls

import (
	"crypto/tls"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
)

// Handshakes counts TLS handshakes by what became of them. It is safe for
// concurrent use.
type Handshakes struct {
	total *prometheus.CounterVec
}

// NewHandshakes returns a counter registered with registerer.
func NewHandshakes(registerer prometheus.Registerer) *Handshakes {
	h := &Handshakes{total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_tls_handshakes_total",
		Help: "TLS handshakes by result (completed, refused, failed, challenge), what was wrong with the client certificate, and protocol version.",
	}, []string{"result", "reason", "version"})}
	registerer.MustRegister(h.total)
	h.total.WithLabelValues("failed", "other", "")
	return h
}

// verified counts a handshake whose certificate was judged; fault says what is
// wrong with it, nil for nothing.
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

// Challenged counts a handshake that has proved a domain to an authority (TLS-ALPN-01).
func (h *Handshakes) Challenged(state tls.ConnectionState) {
	h.total.WithLabelValues("challenge", "none", tls.VersionName(state.Version)).Inc()
}

// Failed counts a handshake that ended before its certificate was judged: no
// common version, not TLS at all, a peer that went away.
func (h *Handshakes) Failed() { h.total.WithLabelValues("failed", "other", "").Inc() }

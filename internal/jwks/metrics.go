package jwks

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tallygate/tallygate/internal/reuse"
)

// Metrics counts fetches and unknown keys of all servers. Labels are configured names and closed
// sets.
type Metrics struct {
	lastSuccess, keys   *prometheus.GaugeVec
	fetches, unknownKey *prometheus.CounterVec
}

// sourceMetrics are the series of one authorization server's key set.
type sourceMetrics struct {
	lastSuccess, keys            prometheus.Gauge
	succeeded, failed            prometheus.Counter // count fetches
	refreshed, shared, throttled prometheus.Counter // count tokens with an unknown kid
}

// NewMetrics returns metrics registered with registerer, which may be nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	create := promauto.With(registerer)
	return &Metrics{
		lastSuccess: create.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_jwks_last_success_timestamp_seconds",
			Help: "Unix time of the last successful fetch of a key set, by issuer; 0 if never fetched.",
		}, []string{"issuer"}),
		keys: create.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_jwks_keys", Help: "Usable keys in a key set, by issuer.",
		}, []string{"issuer"}),
		fetches: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_jwks_fetches_total", Help: "Fetches of a key set, by issuer and result (ok, failed).",
		}, []string{"issuer", "result"}),
		unknownKey: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_jwks_unknown_kid_total",
			Help: "Tokens with an unknown kid, by issuer and outcome: refreshed (caused a fetch), shared (waited for a fetch) or throttled (within the cool-down).",
		}, []string{"issuer", "outcome"}),
	}
}

// forServer returns the series of a server. The series are removed once no lease holds the server.
func (m *Metrics) forServer(lease *reuse.Lease, server string) sourceMetrics {
	lease.Hold("key set metrics of "+server, func() {
		labels := prometheus.Labels{"issuer": server}
		m.lastSuccess.DeletePartialMatch(labels)
		m.keys.DeletePartialMatch(labels)
		m.fetches.DeletePartialMatch(labels)
		m.unknownKey.DeletePartialMatch(labels)
	})
	return sourceMetrics{
		lastSuccess: m.lastSuccess.WithLabelValues(server),
		keys:        m.keys.WithLabelValues(server),
		succeeded:   m.fetches.WithLabelValues(server, "ok"),
		failed:      m.fetches.WithLabelValues(server, "failed"),
		refreshed:   m.unknownKey.WithLabelValues(server, "refreshed"),
		shared:      m.unknownKey.WithLabelValues(server, "shared"),
		throttled:   m.unknownKey.WithLabelValues(server, "throttled"),
	}
}

// countUnknownKey counts a token with an unknown kid. granted says that the token caused a refresh.
// waits says that the request of the token waits for a refresh.
func (m *sourceMetrics) countUnknownKey(waits, granted bool) {
	switch {
	case granted:
		m.refreshed.Inc()
	case waits:
		m.shared.Inc()
	default:
		m.throttled.Inc()
	}
}

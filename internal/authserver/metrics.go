package authserver

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tallygate/tallygate/internal/reuse"
)

// Metrics counts metadata fetches of all servers.
type Metrics struct {
	fetches     *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
}

// serverMetrics are the series of one server.
type serverMetrics struct {
	succeeded, failed prometheus.Counter
	lastSuccess       prometheus.Gauge
}

// NewMetrics returns metrics registered with registerer, which may be nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	create := promauto.With(registerer)
	return &Metrics{
		fetches: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_metadata_fetches_total", Help: "Fetches of authorization server metadata, by issuer and result (ok, failed).",
		}, []string{"issuer", "result"}),
		lastSuccess: create.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_metadata_last_success_timestamp_seconds",
			Help: "Unix time of the last successful fetch of authorization server metadata, by issuer; 0 if never fetched or not needed.",
		}, []string{"issuer"}),
	}
}

// forServer returns the series of a server. The series are removed once no lease holds the server.
func (m *Metrics) forServer(lease *reuse.Lease, server string) serverMetrics {
	lease.Hold("metadata metrics of "+server, func() {
		labels := prometheus.Labels{"issuer": server}
		m.fetches.DeletePartialMatch(labels)
		m.lastSuccess.DeletePartialMatch(labels)
	})
	return serverMetrics{
		succeeded:   m.fetches.WithLabelValues(server, "ok"),
		failed:      m.fetches.WithLabelValues(server, "failed"),
		lastSuccess: m.lastSuccess.WithLabelValues(server),
	}
}

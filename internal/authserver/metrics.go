package authserver

import "github.com/prometheus/client_golang/prometheus"

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

// NewMetrics returns metrics that are not registered yet.
func NewMetrics() *Metrics {
	return &Metrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_metadata_fetches_total", Help: "Fetches of authorization server metadata, by issuer and result (ok, failed).",
		}, []string{"issuer", "result"}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_metadata_last_success_timestamp_seconds",
			Help: "Unix time of the last successful fetch of authorization server metadata, by issuer; 0 if never fetched or not needed.",
		}, []string{"issuer"}),
	}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.fetches.Describe(ch)
	m.lastSuccess.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.fetches.Collect(ch)
	m.lastSuccess.Collect(ch)
}

// Forget removes the series of a server that is no longer used.
func (m *Metrics) Forget(server string) {
	labels := prometheus.Labels{"issuer": server}
	m.fetches.DeletePartialMatch(labels)
	m.lastSuccess.DeletePartialMatch(labels)
}

func (m *Metrics) forServer(server string) serverMetrics {
	return serverMetrics{
		succeeded:   m.fetches.WithLabelValues(server, "ok"),
		failed:      m.fetches.WithLabelValues(server, "failed"),
		lastSuccess: m.lastSuccess.WithLabelValues(server),
	}
}

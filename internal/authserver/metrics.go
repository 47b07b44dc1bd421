package authserver

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts the readings of metadata, of all servers.
type Metrics struct {
	fetches     *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
}

// serverMetrics is the part that belongs to one server.
type serverMetrics struct {
	succeeded, failed prometheus.Counter
	lastSuccess       prometheus.Gauge
}

// NewMetrics returns the metrics, registered nowhere.
func NewMetrics() *Metrics {
	return &Metrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_metadata_fetches_total", Help: "Readings of an authorization server's metadata, by result.",
		}, []string{"issuer", "result"}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_metadata_last_success_timestamp_seconds",
			Help: "When the metadata of an authorization server was last read; 0 when it never was, or need not be.",
		}, []string{"issuer"}),
	}
}

// Describe sends every description; with Collect it makes Metrics a
// [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.fetches.Describe(ch)
	m.lastSuccess.Describe(ch)
}

// Collect sends every series.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.fetches.Collect(ch)
	m.lastSuccess.Collect(ch)
}

// Forget ends the series of a server that is no longer reached.
func (m *Metrics) Forget(server string) {
	of := prometheus.Labels{"issuer": server}
	m.fetches.DeletePartialMatch(of)
	m.lastSuccess.DeletePartialMatch(of)
}

func (m *Metrics) forServer(server string) serverMetrics {
	return serverMetrics{
		succeeded:   m.fetches.WithLabelValues(server, "ok"),
		failed:      m.fetches.WithLabelValues(server, "failed"),
		lastSuccess: m.lastSuccess.WithLabelValues(server),
	}
}

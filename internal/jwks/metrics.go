package jwks

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts readings and unknown keys, of all servers. Labels are configured names
// and closed sets.
type Metrics struct {
	lastSuccess, keys   *prometheus.GaugeVec
	fetches, unknownKey *prometheus.CounterVec
}

// sourceMetrics is the part that belongs to one authorization server's key set.
type sourceMetrics struct {
	lastSuccess, keys            prometheus.Gauge
	succeeded, failed            prometheus.Counter // readings
	refreshed, shared, throttled prometheus.Counter // wishes of unknown keys
}

// NewMetrics returns the metrics, registered nowhere.
func NewMetrics() *Metrics {
	return &Metrics{
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_jwks_last_success_timestamp_seconds",
			Help: "When the key set of an authorization server was last read; 0 when it never was.",
		}, []string{"issuer"}),
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_jwks_keys", Help: "Usable keys of an authorization server.",
		}, []string{"issuer"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_jwks_fetches_total", Help: "Readings of an authorization server's key set, by result.",
		}, []string{"issuer", "result"}),
		unknownKey: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_jwks_unknown_kid_total",
			Help: "Tokens that named an unknown key, by whether they made a reading, shared one, or came within the cool-down.",
		}, []string{"issuer", "outcome"}),
	}
}

// Describe sends every description; with Collect it makes Metrics a
// [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect sends every series.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.lastSuccess, m.keys, m.fetches, m.unknownKey}
}

// Forget ends the series of a server that is no longer configured.
func (m *Metrics) Forget(server string) {
	of := prometheus.Labels{"issuer": server}
	m.lastSuccess.DeletePartialMatch(of)
	m.keys.DeletePartialMatch(of)
	m.fetches.DeletePartialMatch(of)
	m.unknownKey.DeletePartialMatch(of)
}

// of returns the metrics of the authorization server of that name.
func (m *Metrics) forServer(server string) sourceMetrics {
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

// count records the wish of one unknown key: whether it waits for a reading, and whether
// it made that.
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

package crl

import "github.com/prometheus/client_golang/prometheus"

// Metrics tells of revocation lists, by the place that is configured for them. It
// is safe for concurrent use.
type Metrics struct {
	nextUpdate, entries *prometheus.GaugeVec
	fetches             *prometheus.CounterVec
}

// NewMetrics returns metrics that are registered with registerer, unless that is
// nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		nextUpdate: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_crl_next_update_timestamp_seconds",
			Help: "When the revocation lists of a place are due to be updated; 0 when they have never been read.",
		}, []string{"list"}),
		entries: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_crl_entries", Help: "Certificates on the revocation lists of a place.",
		}, []string{"list"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_crl_fetches_total", Help: "Readings of revocation lists at a URL, by result: ok or failed.",
		}, []string{"list", "result"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.nextUpdate, m.entries, m.fetches)
	}
	return m
}

// read counts a reading.
func (m *Metrics) read(s *source, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.fetches.WithLabelValues(s.String(), result).Inc()
}

// Clear removes the gauges of all lists, for a configuration without revocation lists.
func (m *Metrics) Clear() {
	m.nextUpdate.Reset()
	m.entries.Reset()
}

// show tells of the lists of r and of no others.
func (m *Metrics) show(r *Checker) {
	m.Clear()
	for _, s := range r.sources {
		next, entries := 0.0, 0
		for _, l := range s.known() {
			entries += len(l.revoked)
			if at := float64(l.next.Unix()); next == 0 || at < next {
				next = at
			}
		}
		m.nextUpdate.WithLabelValues(s.String()).Set(next)
		m.entries.WithLabelValues(s.String()).Set(float64(entries))
	}
}

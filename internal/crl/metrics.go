package crl

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics has the metrics of revocation lists, by configured file or URL. It is safe for concurrent use.
type Metrics struct {
	nextUpdate, entries *prometheus.GaugeVec
	fetches             *prometheus.CounterVec
}

// NewMetrics returns metrics registered with registerer, which may be nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	create := promauto.With(registerer)
	return &Metrics{
		nextUpdate: create.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_crl_next_update_timestamp_seconds",
			Help: "Unix time of the earliest next update of the revocation lists of a file or URL; 0 before the first success.",
		}, []string{"list"}),
		entries: create.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_crl_entries", Help: "Revoked certificates on the revocation lists of a file or URL.",
		}, []string{"list"}),
		fetches: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_crl_fetches_total", Help: "Reads of revocation lists from a file or URL, by result: ok or failed.",
		}, []string{"list", "result"}),
	}
}

// countFetch counts a read of s from its file or URL.
func (m *Metrics) countFetch(s *source, err error) {
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

// export sets the gauges to the lists of c and removes all others.
func (m *Metrics) export(c *Checker) {
	m.Clear()
	for _, s := range c.sources {
		next, entries := 0.0, 0
		for _, l := range s.lists() {
			entries += len(l.revoked)
			if at := float64(l.next.Unix()); next == 0 || at < next {
				next = at
			}
		}
		m.nextUpdate.WithLabelValues(s.String()).Set(next)
		m.entries.WithLabelValues(s.String()).Set(float64(entries))
	}
}

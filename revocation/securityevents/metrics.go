package securityevents

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tallygate/tallygate/internal/reuse"
)

// A result is the outcome of a Security Event Token.
type result int

const (
	ignored  result = iota // no event in the token revokes anything
	verified               // a verification event of the server, SSF 1.0 section 8.1.4
	applied                // its revocations are durable and in effect
	invalid                // refused
	failed                 // its revocations could not be stored; the server must send it again
)

// results is the number of results.
const results = 5

func (r result) String() string {
	return [...]string{"ignored", "verified", "applied", "invalid", "failed"}[r]
}

// Metrics counts the events of all servers.
type Metrics struct {
	events      *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
}

// serverMetrics are the series of one server.
type serverMetrics struct {
	events      [results]prometheus.Counter
	lastSuccess prometheus.Gauge // nil without polls
}

// NewMetrics returns metrics registered with registerer, which may be nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	create := promauto.With(registerer)
	return &Metrics{
		events: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_security_events_total",
			Help: "Security Event Tokens of other authorization servers, by issuer and result (applied, verified, ignored, invalid, failed).",
		}, []string{"issuer", "result"}),
		lastSuccess: create.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_security_events_last_success_timestamp_seconds",
			Help: "Unix time at which the last poll for Security Event Tokens that succeeded began, by issuer; 0 if none succeeded.",
		}, []string{"issuer"}),
	}
}

// forServer returns the series of a server. The series are removed once no lease holds the server. Without polls
// lastSuccess has no series, because an alert would take its 0 for a failure.
func (m *Metrics) forServer(lease *reuse.Lease, server string, polls bool) (s serverMetrics) {
	lease.Hold("security event metrics of "+server, func() {
		labels := prometheus.Labels{"issuer": server}
		m.events.DeletePartialMatch(labels)
		m.lastSuccess.DeletePartialMatch(labels)
	})
	for r := range result(results) {
		s.events[r] = m.events.WithLabelValues(server, r.String())
	}
	if polls {
		s.lastSuccess = m.lastSuccess.WithLabelValues(server)
	}
	return s
}

func (m *serverMetrics) count(r result) { m.add(r, 1) }

func (m *serverMetrics) add(r result, n int) { m.events[r].Add(float64(n)) }

package subscriber

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/revocation"
)

// Metrics has the series of the feed of revocations. The gauges have the values of the [Subscriber] that was started
// last and runs. The series exist while a lease holds a Subscriber.
type Metrics struct {
	mu          sync.Mutex
	running     []*Subscriber // in the order of their last start; a reload starts the next before it ends the previous, or the next if it fails
	events      *prometheus.CounterVec
	propagation *prometheus.HistogramVec
}

// The results of a message.
const (
	applied       = "applied"
	gap           = "gap"     // messages before it are missing
	invalidResult = "invalid" // not a message of the issuer
	full          = "full"    // the set has no room for its revocations
)

// NewMetrics returns metrics registered with registerer, which may be nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	create := promauto.With(registerer)
	m := &Metrics{
		events: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_revocation_events_total",
			Help: "Messages of the issuer's feed of revocations, by result: applied, gap (messages before it are missing), invalid or full (no room for it).",
		}, []string{"result"}),
		propagation: create.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tallygate_revocation_propagation_seconds",
			Help:    "Time from a revocation at the issuer to its effect at this gate, by the clocks of both.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, nil),
	}
	if registerer != nil {
		registerer.MustRegister(m)
	}
	return m
}

// hold creates the counters, and removes all series once no lease holds a Subscriber.
func (m *Metrics) hold(lease *reuse.Lease) {
	lease.Hold("metrics of the feed of revocations", func() {
		m.mu.Lock()
		m.running = nil
		m.mu.Unlock()
		m.events.Reset()
		m.propagation.Reset()
	})
	for _, result := range []string{applied, gap, invalidResult, full} {
		m.events.WithLabelValues(result)
	}
	m.propagation.WithLabelValues()
}

// started makes the gauges have the values of s.
func (m *Metrics) started(s *Subscriber) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = append(m.without(s), s)
}

// ended makes the gauges have the values of the Subscriber that was started before s, if s was started last.
func (m *Metrics) ended(s *Subscriber) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = m.without(s)
}

func (m *Metrics) without(s *Subscriber) []*Subscriber {
	return slices.DeleteFunc(m.running, func(other *Subscriber) bool { return other == s })
}

// current returns the Subscriber of the gauges, or nil.
func (m *Metrics) current() *Subscriber {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.running) == 0 {
		return nil
	}
	return m.running[len(m.running)-1]
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tallygate_revocation_"+name, help, labels, nil)
}

var (
	connectedGauge = gauge("stream_connected", "1 while the stream of the issuer's feed of revocations is open.")
	lastSyncGauge  = gauge("last_sync_timestamp_seconds", "Unix time at which the issuer last said that this gate knows all revocations; 0: never.")
	sequenceGauge  = gauge("sequence", "Number of the last revocation in the issuer's log that this gate knows.")
	entriesGauge   = gauge("entries", "Revocations that this gate knows, by kind.", "kind")
	staleGauge     = gauge("stale", "1 while this gate does not know whether there are more revocations, for longer than max_staleness.")
)

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectedGauge, lastSyncGauge, sequenceGauge, entriesGauge, staleGauge} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	s := m.current()
	if s == nil {
		return
	}
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	status := s.Status()
	send(connectedGauge, is(status.Connected))
	send(lastSyncGauge, float64(unixMilli(status.LastSync))/1e3)
	send(sequenceGauge, float64(status.Position.Seq))
	send(staleGauge, is(status.Stale != nil))
	for _, kind := range revocation.Kinds() {
		send(entriesGauge, float64(s.Set().Len(kind)), kind.String())
	}
}

// count counts a message by its result.
func (m *Metrics) count(result string, propagation time.Duration) {
	m.events.WithLabelValues(result).Inc()
	if propagation >= 0 {
		m.propagation.WithLabelValues().Observe(propagation.Seconds())
	}
}

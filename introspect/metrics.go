package introspect

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

// Metrics counts calls and what is remembered of their answers, of all servers. Labels
// are configured names and closed sets.
type Metrics struct {
	calls     *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	suspended *prometheus.Desc
	early     *prometheus.CounterVec
	lookups   *prometheus.CounterVec
	evictions prometheus.Counter
	entries   prometheus.GaugeFunc

	mu         sync.Mutex
	registered map[string]*Client // those that started, by the name of their server
}

// clientMetrics is the part that belongs to one server.
type clientMetrics struct {
	active, inactive, failed, timedOut    prometheus.Counter // calls, by outcome
	circuitOpen, noPermit, limited        prometheus.Counter // those that were not made
	hits, misses, negative, stale, shared prometheus.Counter // of what is remembered
	early                                 prometheus.Counter
	duration                              prometheus.Observer
}

// NewMetrics returns the metrics, registered nowhere.
func NewMetrics() *Metrics {
	cache := prometheus.Labels{"cache": "introspection"}
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_introspection_requests_total",
			Help: "Questions to an authorization server about a token, by what came of them; circuit_open, no_turn and rate_limited were not sent.",
		}, []string{"issuer", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tallygate_introspection_duration_seconds", Help: "Time to ask an authorization server about a token.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"issuer"}),
		suspended: prometheus.NewDesc("tallygate_introspection_suspended",
			"1 while an authorization server is not asked, after failures in a row.", []string{"issuer"}, nil),
		early: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_introspection_early_refreshes_total", Help: "Questions in the background, before what is remembered ends.",
		}, []string{"issuer"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_cache_requests_total", Help: "Look-ups in a cache, by result.", ConstLabels: cache,
		}, []string{"result"}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tallygate_cache_evictions_total", Help: "Entries that left a cache because it was full.", ConstLabels: cache,
		}),
		registered: make(map[string]*Client),
	}
	m.entries = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_cache_entries", Help: "Entries in a cache.", ConstLabels: cache,
	}, m.entryCount)
	for _, result := range []string{"hit", "miss", "negative", "stale", "shared"} {
		m.lookups.WithLabelValues(result)
	}
	return m
}

// tellOf tells of c, and no more of whose place it takes.
func (m *Metrics) register(c *Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registered[c.server] = c
}

// tellNoMoreOf tells no more of c.
func (m *Metrics) unregister(c *Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered[c.server] == c {
		delete(m.registered, c.server)
	}
}

// clients returns those that there is something to tell of.
func (m *Metrics) clients() []*Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.registered))
}

// remembered returns how much all of them do.
func (m *Metrics) entryCount() float64 {
	n := 0
	for _, c := range m.clients() {
		n += c.cache.active.Len() + c.cache.inactive.Len()
	}
	return float64(n)
}

// Describe sends every description; with Collect it makes Metrics a
// [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.suspended
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect sends every series.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.clients() {
		suspended := 0.0
		if c.suspended() {
			suspended = 1
		}
		ch <- prometheus.MustNewConstMetric(m.suspended, prometheus.GaugeValue, suspended, c.server)
	}
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.duration, m.early, m.lookups, m.evictions, m.entries}
}

// Forget ends the series of a server that is no longer asked.
func (m *Metrics) Forget(server string) {
	of := prometheus.Labels{"issuer": server}
	m.calls.DeletePartialMatch(of)
	m.duration.DeletePartialMatch(of)
	m.early.DeletePartialMatch(of)
}

func (m *Metrics) forServer(server string) clientMetrics {
	return clientMetrics{
		active:      m.calls.WithLabelValues(server, "active"),
		inactive:    m.calls.WithLabelValues(server, "inactive"),
		failed:      m.calls.WithLabelValues(server, "error"),
		timedOut:    m.calls.WithLabelValues(server, "timeout"),
		circuitOpen: m.calls.WithLabelValues(server, "circuit_open"),
		noPermit:    m.calls.WithLabelValues(server, "no_turn"),
		limited:     m.calls.WithLabelValues(server, "rate_limited"),
		hits:        m.lookups.WithLabelValues("hit"),
		misses:      m.lookups.WithLabelValues("miss"),
		negative:    m.lookups.WithLabelValues("negative"),
		stale:       m.lookups.WithLabelValues("stale"),
		shared:      m.lookups.WithLabelValues("shared"),
		early:       m.early.WithLabelValues(server),
		duration:    m.duration.WithLabelValues(server),
	}
}

// count records what came of one call.
func (m *clientMetrics) count(r *response, err error) {
	var timeout net.Error
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		m.circuitOpen.Inc()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		m.timedOut.Inc()
	case err != nil:
		m.failed.Inc()
	case r.denial != nil:
		m.inactive.Inc()
	default:
		m.active.Inc()
	}
}

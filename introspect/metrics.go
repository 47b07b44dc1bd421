package introspect

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/sony/gobreaker/v2"

	"github.com/tallygate/tallygate/internal/reuse"
)

// Metrics counts requests and cache look-ups of all servers. Labels are configured names and
// closed sets.
type Metrics struct {
	calls     *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	suspended *prometheus.Desc
	early     *prometheus.CounterVec
	lookups   *prometheus.CounterVec
	evictions prometheus.Counter

	mu         sync.Mutex
	registered map[string]*Client // started clients by the name of their server
}

// clientMetrics are the series of one server.
type clientMetrics struct {
	active, inactive, failed, timedOut    prometheus.Counter // requests by outcome
	circuitOpen, noPermit, limited        prometheus.Counter // requests that were not sent
	hits, misses, negative, stale, shared prometheus.Counter // cache look-ups
	early                                 prometheus.Counter
	duration                              prometheus.Observer
}

// NewMetrics returns metrics registered with registerer, which may be nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	create := promauto.With(registerer)
	cache := prometheus.Labels{"cache": "introspection"}
	m := &Metrics{
		calls: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_introspection_requests_total",
			Help: "Introspection requests, by issuer and outcome: active, inactive, error, timeout, or, for requests that were not sent, circuit_open, no_permit or rate_limited.",
		}, []string{"issuer", "outcome"}),
		duration: create.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tallygate_introspection_duration_seconds", Help: "Duration of introspection requests, by issuer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"issuer"}),
		suspended: prometheus.NewDesc("tallygate_introspection_suspended",
			"Whether the circuit breaker for introspection is open after failures in a row: 1 or 0, by issuer.", []string{"issuer"}, nil),
		early: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_introspection_early_refreshes_total", Help: "Background introspection requests made before a cached response expires, by issuer.",
		}, []string{"issuer"}),
		lookups: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_cache_requests_total", Help: "Cache look-ups, by cache and result.", ConstLabels: cache,
		}, []string{"result"}),
		evictions: create.NewCounter(prometheus.CounterOpts{
			Name: "tallygate_cache_evictions_total", Help: "Entries evicted from a full cache, by cache.", ConstLabels: cache,
		}),
		registered: make(map[string]*Client),
	}
	create.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_cache_entries", Help: "Entries in a cache, by cache.", ConstLabels: cache,
	}, m.entryCount)
	for _, result := range []string{"hit", "miss", "negative", "stale", "shared"} {
		m.lookups.WithLabelValues(result)
	}
	if registerer != nil {
		registerer.MustRegister(breakers{m})
	}
	return m
}

// register makes c the client whose cache and circuit breaker the metrics report for its server.
func (m *Metrics) register(c *Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registered[c.server] = c
}

// unregister removes c, unless another client has replaced it.
func (m *Metrics) unregister(c *Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered[c.server] == c {
		delete(m.registered, c.server)
	}
}

func (m *Metrics) clients() []*Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.registered))
}

// entryCount returns the cache entries of all clients.
func (m *Metrics) entryCount() float64 {
	n := 0
	for _, c := range m.clients() {
		n += c.cache.active.Len() + c.cache.inactive.Len()
	}
	return float64(n)
}

// breakers collects the states of the circuit breakers at each scrape, because a state also changes
// by the passage of time.
type breakers struct{ *Metrics }

// Describe implements [prometheus.Collector].
func (m breakers) Describe(ch chan<- *prometheus.Desc) { ch <- m.suspended }

// Collect implements [prometheus.Collector].
func (m breakers) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.clients() {
		suspended := 0.0
		if c.suspended() {
			suspended = 1
		}
		ch <- prometheus.MustNewConstMetric(m.suspended, prometheus.GaugeValue, suspended, c.server)
	}
}

// forServer returns the series of a server. The series are removed once no lease holds them.
func (m *Metrics) forServer(lease *reuse.Lease, server string) clientMetrics {
	lease.Hold("introspection metrics of "+server, func() {
		labels := prometheus.Labels{"issuer": server}
		m.calls.DeletePartialMatch(labels)
		m.duration.DeletePartialMatch(labels)
		m.early.DeletePartialMatch(labels)
	})
	return clientMetrics{
		active:      m.calls.WithLabelValues(server, "active"),
		inactive:    m.calls.WithLabelValues(server, "inactive"),
		failed:      m.calls.WithLabelValues(server, "error"),
		timedOut:    m.calls.WithLabelValues(server, "timeout"),
		circuitOpen: m.calls.WithLabelValues(server, "circuit_open"),
		noPermit:    m.calls.WithLabelValues(server, "no_permit"),
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

// count records the outcome of a request.
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

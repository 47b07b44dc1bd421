package validate

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// An origin says where the facts of a judged token came from.
type origin uint8

const (
	local  origin = iota // parsed and verified for this request, as far as it went
	cached               // remembered
)

// metrics is what this package counts. Labels come from the configuration and
// from closed sets, never from a request, and every series exists from the start.
type metrics struct {
	ok, refused  [2]prometheus.Observer // by origin
	hits, misses prometheus.Counter
	evictions    prometheus.Counter

	lastSuccess, keys   *prometheus.GaugeVec
	fetches, unknownKey *prometheus.CounterVec
	all                 []prometheus.Collector
}

// keySetMetrics is the part that belongs to one authorization server's key set.
type keySetMetrics struct {
	lastSuccess, keys    prometheus.Gauge
	succeeded, failed    prometheus.Counter // readings
	refreshed, throttled prometheus.Counter // wishes of unknown keys
}

// validationBuckets are in seconds: a remembered token takes microseconds, a new
// one a tenth of a millisecond. The default buckets begin at 5 ms.
var validationBuckets = []float64{
	25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1,
}

// newMetrics makes the metrics; entries returns the size of the caches.
func newMetrics(entries func() float64) *metrics {
	jwt := prometheus.Labels{"cache": "jwt"}
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:        "tallygate_token_validation_duration_seconds",
		Help:        "Time to judge an access token, by where its facts came from and the result.",
		ConstLabels: prometheus.Labels{"kind": "jwt"},
		Buckets:     validationBuckets,
	}, []string{"source", "result"})
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_cache_requests_total", Help: "Look-ups in a cache, by result.", ConstLabels: jwt,
	}, []string{"result"})
	evictions := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tallygate_cache_evictions_total", Help: "Entries that left a cache because it was full.", ConstLabels: jwt,
	})
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_cache_entries", Help: "Entries in a cache.", ConstLabels: jwt,
	}, entries)
	m := &metrics{
		hits:      requests.WithLabelValues("hit"),
		misses:    requests.WithLabelValues("miss"),
		evictions: evictions,
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
			Help: "Tokens that named an unknown key, by whether a reading was asked for or the cool-down forbade it.",
		}, []string{"issuer", "outcome"}),
	}
	for from, label := range map[origin]string{local: "local", cached: "cache"} {
		m.ok[from] = duration.WithLabelValues(label, "ok")
		m.refused[from] = duration.WithLabelValues(label, "refused")
	}
	m.all = []prometheus.Collector{duration, requests, evictions, size, m.lastSuccess, m.keys, m.fetches, m.unknownKey}
	return m
}

// keySet returns the metrics of the authorization server of that name.
func (m *metrics) keySet(server string) keySetMetrics {
	return keySetMetrics{
		lastSuccess: m.lastSuccess.WithLabelValues(server),
		keys:        m.keys.WithLabelValues(server),
		succeeded:   m.fetches.WithLabelValues(server, "ok"),
		failed:      m.fetches.WithLabelValues(server, "failed"),
		refreshed:   m.unknownKey.WithLabelValues(server, "refreshed"),
		throttled:   m.unknownKey.WithLabelValues(server, "throttled"),
	}
}

// register adds the metrics to registry, unless that is nil.
func (m *metrics) register(registry prometheus.Registerer) error {
	if registry == nil {
		return nil
	}
	for _, c := range m.all {
		if err := registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// observe records one judged token.
func (m *metrics) observe(from origin, err error, took time.Duration) {
	if err != nil {
		m.refused[from].Observe(took.Seconds())
		return
	}
	m.ok[from].Observe(took.Seconds())
}

package validate

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/introspect"
)

// A kind says what a token was taken for.
type tokenKind uint8

const (
	signed tokenKind = iota // a JWT
	opaque
	numKinds
)

// A source says where the facts of a judged token came from.
type claimsSource uint8

const (
	local  claimsSource = iota // parsed and verified for this request, as far as it went
	cached                     // remembered
	remote                     // asked for
	numSources
)

// Metrics is what this package, and those that it finds facts by, count. Labels come from
// the configuration and from closed sets, never from a request, and every series exists
// from the start. One serves a gate for all its life: a [Validator] takes another's place,
// the counts go on.
type Metrics struct {
	current atomic.Pointer[Validator] // whose caches are measured

	ok, refused  [numKinds][numSources]prometheus.Observer
	hits, misses prometheus.Counter
	evictions    prometheus.Counter

	metadata      *authserver.Metrics
	keySets       *jwks.Metrics
	introspection *introspect.Metrics
	all           []prometheus.Collector
}

// validationBuckets are in seconds: a remembered token takes microseconds, a new
// one a tenth of a millisecond. The default buckets begin at 5 ms.
var validationBuckets = []float64{
	25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1,
}

// NewMetrics returns metrics that are registered with registerer, unless that is nil.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := makeMetrics()
	if registerer == nil {
		return m, nil
	}
	for _, c := range m.all {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func makeMetrics() *Metrics {
	jwt := prometheus.Labels{"cache": "jwt"}
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tallygate_token_validation_duration_seconds",
		Help:    "Time to judge an access token, by its kind, where its facts came from and the result.",
		Buckets: validationBuckets,
	}, []string{"kind", "source", "result"})
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_cache_requests_total", Help: "Look-ups in a cache, by result.", ConstLabels: jwt,
	}, []string{"result"})
	m := &Metrics{
		hits:   requests.WithLabelValues("hit"),
		misses: requests.WithLabelValues("miss"),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tallygate_cache_evictions_total", Help: "Entries that left a cache because it was full.", ConstLabels: jwt,
		}),
		metadata: authserver.NewMetrics(), keySets: jwks.NewMetrics(), introspection: introspect.NewMetrics(),
	}
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_cache_entries", Help: "Entries in a cache.", ConstLabels: jwt,
	}, m.cached)
	for k, kindLabel := range [numKinds]string{signed: "jwt", opaque: "opaque"} {
		for from, label := range [numSources]string{local: "local", cached: "cache", remote: "remote"} {
			m.ok[k][from] = duration.WithLabelValues(kindLabel, label, "ok")
			m.refused[k][from] = duration.WithLabelValues(kindLabel, label, "refused")
		}
	}
	m.all = []prometheus.Collector{duration, requests, m.evictions, size, m.metadata, m.keySets, m.introspection}
	return m
}

// cached returns how many JWTs are remembered.
func (m *Metrics) cached() float64 {
	if v := m.current.Load(); v != nil {
		return v.cached()
	}
	return 0
}

// forget ends the series of a server that was made, of what after, which has its name, has
// not: an alert on how old something is must not go off about what is not there.
func (m *Metrics) forgetServer(name string, after *server) {
	if after.remote == nil {
		m.metadata.Forget(name)
	}
	if after.keys == nil {
		m.keySets.Forget(name)
	}
	if after.client == nil {
		m.introspection.Forget(name)
	}
}

// observe records one judged token.
func (m *Metrics) observe(k tokenKind, from claimsSource, err error, took time.Duration) {
	if err != nil {
		m.refused[k][from].Observe(took.Seconds())
		return
	}
	m.ok[k][from].Observe(took.Seconds())
}

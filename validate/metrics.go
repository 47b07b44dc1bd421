package validate

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/introspect"
)

// A tokenKind is the format of a token.
type tokenKind uint8

const (
	signed tokenKind = iota // JWT
	opaque
	numKinds
)

// A claimsSource says where the claims of a token came from.
type claimsSource uint8

const (
	local  claimsSource = iota // the token was parsed and verified for this request, with or without success
	cached                     // the claims came from the cache
	remote                     // the claims came from an introspection response
	numSources
)

// Metrics counts token checks, and includes the metrics of the packages that fetch claims and
// keys. The value of a label is a configured name or comes from a fixed list, and is never a part of
// a request. Every series exists from the start. A gate has one Metrics, which all its Validators use
// across reloads.
type Metrics struct {
	current atomic.Pointer[Validator] // the Validator whose cache sizes the metrics report

	ok, refused  [numKinds][numSources]prometheus.Observer
	hits, misses prometheus.Counter
	evictions    prometheus.Counter

	metadata      *authserver.Metrics
	keySets       *jwks.Metrics
	introspection *introspect.Metrics
}

// validationBuckets are in seconds. The check of a cached token takes microseconds and the check of a
// new token a tenth of a millisecond, but the default buckets of Prometheus begin at 5 ms.
var validationBuckets = []float64{
	25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1,
}

// NewMetrics returns metrics registered with registerer, which may be nil. At most one Metrics can be
// registered with a registerer.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	create := promauto.With(registerer)
	jwt := prometheus.Labels{"cache": "jwt"}
	duration := create.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tallygate_token_validation_duration_seconds",
		Help:    "Duration of access token checks, by kind (jwt, opaque), source of the claims (local, cache, remote) and result (ok, refused).",
		Buckets: validationBuckets,
	}, []string{"kind", "source", "result"})
	requests := create.NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_cache_requests_total", Help: "Cache look-ups, by cache and result.", ConstLabels: jwt,
	}, []string{"result"})
	m := &Metrics{
		hits:   requests.WithLabelValues("hit"),
		misses: requests.WithLabelValues("miss"),
		evictions: create.NewCounter(prometheus.CounterOpts{
			Name: "tallygate_cache_evictions_total", Help: "Entries evicted from a full cache, by cache.", ConstLabels: jwt,
		}),
		metadata: authserver.NewMetrics(registerer), keySets: jwks.NewMetrics(registerer), introspection: introspect.NewMetrics(registerer),
	}
	create.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_cache_entries", Help: "Entries in a cache, by cache.", ConstLabels: jwt,
	}, m.cached)
	for k, kindLabel := range [numKinds]string{signed: "jwt", opaque: "opaque"} {
		for from, label := range [numSources]string{local: "local", cached: "cache", remote: "remote"} {
			m.ok[k][from] = duration.WithLabelValues(kindLabel, label, "ok")
			m.refused[k][from] = duration.WithLabelValues(kindLabel, label, "refused")
		}
	}
	return m
}

// cached returns the number of cached JWTs.
func (m *Metrics) cached() float64 {
	if v := m.current.Load(); v != nil {
		return v.cached()
	}
	return 0
}

// observe records one checked token.
func (m *Metrics) observe(k tokenKind, from claimsSource, err error, took time.Duration) {
	if err != nil {
		m.refused[k][from].Observe(took.Seconds())
		return
	}
	m.ok[k][from].Observe(took.Seconds())
}

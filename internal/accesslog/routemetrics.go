package accesslog

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
)

// The values of labels come from the configuration and from closed sets, never from a request, so
// that clients cannot create series.
const unknownPartner = "unknown" // package config refuses a partner with this name

// partnerMetrics are the metrics of one partner, or of requests without a known partner. They cache
// the result of the lookup by labels, because the lookup costs more than the checks of a request.
// Each partner has its own lock.
type partnerMetrics struct {
	partner string
	mu      sync.RWMutex
	routes  map[metricKey]*routeMetrics // at most two for each configured route, and one for each API without a route
}

func newPartnerMetrics(name string) *partnerMetrics {
	return &partnerMetrics{partner: name, routes: make(map[metricKey]*routeMetrics)}
}

// A metricKey is a route with its API, and whether the counted requests to it were granted.
type metricKey struct {
	api, route string
	granted    bool
}

// routeMetrics count the granted requests, or the refused requests, of one partner to one route.
type routeMetrics struct {
	requests   *prometheus.CounterVec
	lastStatus atomic.Pointer[codeCount]
	duration   [len(classes)]prometheus.Observer

	loggedAt   atomic.Int64 // Unix time of the last log line
	suppressed atomic.Int64 // requests without a log line since the last log line

	// The fields below are set for granted requests only, because a gauge that is never set would
	// show 1970.
	granted     prometheus.Counter
	upstream    prometheus.Observer
	certificate prometheus.Gauge
}

// codeCount caches the counter of the last status code. Most responses have the same code.
type codeCount struct {
	code  int
	count prometheus.Counter
}

// discardGauge is not registered, so its value appears nowhere.
var discardGauge = prometheus.NewGauge(prometheus.GaugeOpts{Name: "discarded"})

// routeMetrics returns the metrics of the request in e.
func (r *Recorder) routeMetrics(e *Entry) *routeMetrics {
	partner := r.partners[e.Partner()]
	if partner == nil {
		partner = r.partners[unknownPartner]
	}
	key := metricKey{api: e.API, route: e.Route, granted: e.Decision.Reason == access.Granted}
	partner.mu.RLock()
	s := partner.routes[key]
	partner.mu.RUnlock()
	if s == nil {
		s = partner.register(key, r)
	}
	return s
}

// register adds the metrics for key, unless another goroutine has already added them.
func (a *partnerMetrics) register(key metricKey, r *Recorder) *routeMetrics {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.routes[key]; s != nil {
		return s
	}
	m := r.metrics
	s := &routeMetrics{requests: m.requests.MustCurryWith(prometheus.Labels{"partner": a.partner, "api": key.api, "route": key.route})}
	if key.granted {
		s.granted = m.decisions.WithLabelValues(a.partner, key.api, outcome(access.Granted), access.Granted.String())
		s.upstream = m.upstream.WithLabelValues(key.api, key.route)
		s.certificate = discardGauge
		if !r.retired.Load() && a.partner != unknownPartner { // a reload may have removed the partner
			s.certificate = m.clientCertificate.WithLabelValues(a.partner)
		}
	}
	for i, class := range classes {
		s.duration[i] = m.duration.WithLabelValues(key.api, key.route, class)
	}
	a.routes[key] = s
	return s
}

// sampleDue reports whether a granted request that ends now gets a log line. The first request in
// each second gets a log line. suppressed is the number of requests without a log line since the
// previous log line.
func (s *routeMetrics) sampleDue(now time.Time) (suppressed int64, due bool) {
	second := now.Unix()
	if last := s.loggedAt.Load(); last == second || !s.loggedAt.CompareAndSwap(last, second) {
		s.suppressed.Add(1)
		return 0, false
	}
	return s.suppressed.Swap(0), true
}

// statusCount returns the counter of responses with status.
func (s *routeMetrics) statusCount(status int) prometheus.Counter {
	if last := s.lastStatus.Load(); last != nil && last.code == status {
		return last.count
	}
	count := s.requests.WithLabelValues(codeLabel(status))
	s.lastStatus.Store(&codeCount{status, count})
	return count
}

// codeLabel returns the value of the label code for status. Codes that IANA registers and 499, which the gate
// itself records, stand for themselves. Other codes share their class, such as 4xx, so that an API whose
// callers choose the code makes no series for each code.
func codeLabel(status int) string {
	switch {
	case http.StatusText(status) != "" || status == 499:
		return strconv.Itoa(status)
	case status >= 100 && status <= 599:
		return strconv.Itoa(status/100) + "xx"
	default:
		return "other"
	}
}

package proxy

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
)

// Labels come from the configuration and from closed sets, never from a request,
// so that nobody outside can make a new series.
const (
	unknownPartner = "unknown"   // refused at configuration as a partner's name
	unmatchedRoute = "unmatched" // refused at configuration as an API's name, with which every route's begins
)

// accounts are the series of one partner, or of nobody known. They are looked up once:
// finding a metric by its labels costs more than the checks do. One per partner, so that
// partners do not wait for each other.
type partnerMetrics struct {
	partner string
	mu      sync.RWMutex
	routes  map[metricKey]*routeMetrics // as many as the configuration has routes, twice
}

// An account is what a partner is granted, or refused, on a route.
type metricKey struct {
	route   string
	granted bool
}

// series is what is counted of one account.
type routeMetrics struct {
	requests   *prometheus.CounterVec
	lastStatus atomic.Pointer[codeCount]
	duration   [len(classes)]prometheus.Observer

	loggedAt   atomic.Int64 // the second in which the last line was
	suppressed atomic.Int64 // requests since then

	// Nil unless it is granted: a certificate's end with nothing in it would say 1970.
	granted     prometheus.Counter
	upstream    prometheus.Observer
	certificate prometheus.Gauge
}

// codeCount is the count of the status code that was sent last: most answers have
// the same.
type codeCount struct {
	code  int
	count prometheus.Counter
}

// unread is a gauge that nobody reads.
var discardGauge = prometheus.NewGauge(prometheus.GaugeOpts{Name: "unread"})

// series returns those of a request that was decided so.
func (p *Proxy) routeMetrics(d *access.Decision) *routeMetrics {
	of := p.partnerMetrics[d.Partner]
	if of == nil {
		of = p.partnerMetrics[unknownPartner]
	}
	at := metricKey{route: d.Route, granted: d.Reason == access.Granted}
	if at.route == "" {
		at.route = unmatchedRoute
	}
	of.mu.RLock()
	s := of.routes[at]
	of.mu.RUnlock()
	if s == nil {
		s = of.register(at, p)
	}
	return s
}

func (a *partnerMetrics) register(at metricKey, p *Proxy) *routeMetrics {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.routes[at]; s != nil {
		return s
	}
	m := p.metrics
	s := &routeMetrics{requests: m.requests.MustCurryWith(prometheus.Labels{"partner": a.partner, "route": at.route})}
	if at.granted {
		s.granted = m.decisions.WithLabelValues(a.partner, outcome(access.Granted), access.Granted.String())
		s.upstream = m.upstream.WithLabelValues(at.route)
		s.certificate = discardGauge
		if !p.retired.Load() { // whose partner may be gone
			s.certificate = m.clientCertificate.WithLabelValues(a.partner)
		}
	}
	for i, class := range classes {
		s.duration[i] = m.duration.WithLabelValues(at.route, class)
	}
	a.routes[at] = s
	return s
}

// due reports whether a granted request that ends now is to have a line, as the first in
// its second, and how many before it had none.
func (s *routeMetrics) sampleDue(now time.Time) (suppressed int64, due bool) {
	second := now.Unix()
	if last := s.loggedAt.Load(); last == second || !s.loggedAt.CompareAndSwap(last, second) {
		s.suppressed.Add(1)
		return 0, false
	}
	return s.suppressed.Swap(0), true
}

// code returns the count of answers with this status.
func (s *routeMetrics) statusCount(status int) prometheus.Counter {
	if last := s.lastStatus.Load(); last != nil && last.code == status {
		return last.count
	}
	count := s.requests.WithLabelValues(strconv.Itoa(status))
	s.lastStatus.Store(&codeCount{status, count})
	return count
}

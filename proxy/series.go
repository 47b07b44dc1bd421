package proxy

import (
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
)

// rememberedSeries bounds the series of granted callers that are kept at hand. One takes
// about 1 KiB; what does not fit is put together anew.
const rememberedSeries = 8 << 10

// Labels come from the configuration and from closed sets, never from a request,
// so that nobody outside can make a new series.
const (
	unknownPartner = "unknown"   // refused at configuration as a partner's name
	unmatchedRoute = "unmatched" // refused at configuration as an API's name, with which every route's begins
)

// A caller is what repeats in the log lines and counts of one client on one route.
type caller struct {
	partner, clientID, route, issuer string

	// Only of a granted request, where they are from the configuration and from a
	// certificate that passed. Of others, strangers choose them.
	granted    bool
	method     string
	thumbprint access.Thumbprint
}

func (x *exchange) caller() caller {
	d := &x.decision
	c := caller{partner: unknownPartner, clientID: access.Clip(d.ClientID), route: unmatchedRoute, issuer: d.Server}
	if d.Partner != "" {
		c.partner = d.Partner
	}
	if d.Route != "" {
		c.route = d.Route
	}
	if d.Reason == access.Granted {
		c.granted, c.method, c.thumbprint = true, x.request.Method, x.certificate.Thumbprint
	}
	return c
}

// series is a caller's log and counts, looked up once: finding a metric by its labels
// and writing the same fields anew cost more than the checks do.
type series struct {
	log      *slog.Logger // with the caller's fields already written
	requests *prometheus.CounterVec
	last     atomic.Pointer[codeCount]
	duration [len(classes)]prometheus.Observer

	logged   atomic.Int64 // the second in which the last line was
	unlogged atomic.Int64 // requests since then

	// Nil unless the caller was granted: a certificate's end with nothing in it would
	// say 1970.
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
var unread = prometheus.NewGauge(prometheus.GaugeOpts{Name: "unread"})

func newSeriesCache() *lru.Cache[caller, *series] {
	cache, err := lru.New[caller, *series](rememberedSeries)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return cache
}

// series returns those of c. Two requests may each put them together once, which
// does no harm: both count in the same metrics.
func (p *Proxy) series(c caller) *series {
	if s, ok := p.known.Get(c); ok {
		return s
	}
	m := p.metrics
	s := &series{
		log: p.log.With("partner", c.partner, "client_id", c.clientID, "route", c.route, "issuer", c.issuer),
		requests: m.requests.MustCurryWith(prometheus.Labels{
			"partner": c.partner, "route": c.route,
		}),
	}
	if c.granted {
		s.log = s.log.With("method", c.method, "thumbprint", c.thumbprint.String(), "reason", access.Granted.String())
		s.granted = m.decisions.WithLabelValues(c.partner, outcome(access.Granted), access.Granted.String())
		s.upstream = m.upstream.WithLabelValues(c.route)
		s.certificate = unread
		if !p.retired.Load() { // whose partner may be gone
			s.certificate = m.clientCertificate.WithLabelValues(c.partner)
		}
	}
	for i, class := range classes {
		s.duration[i] = m.duration.WithLabelValues(c.route, class)
	}
	if c.granted { // the others are as many as strangers like
		p.known.Add(c, s)
	}
	return s
}

// due reports whether a granted request that ends now is to have a line, as the first in
// its second, and how many before it had none.
func (s *series) due(now time.Time) (unlogged int64, due bool) {
	second := now.Unix()
	if last := s.logged.Load(); last == second || !s.logged.CompareAndSwap(last, second) {
		s.unlogged.Add(1)
		return 0, false
	}
	return s.unlogged.Swap(0), true
}

// code returns the count of answers with this status.
func (s *series) code(status int) prometheus.Counter {
	if last := s.last.Load(); last != nil && last.code == status {
		return last.count
	}
	count := s.requests.WithLabelValues(strconv.Itoa(status))
	s.last.Store(&codeCount{status, count})
	return count
}

package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/upstream"
)

// nowhere is an upstream without a network, so that a request costs the gate's own work only.
type nowhere struct {
	reached time.Time
	answer  upstream.Response
	fields  [4]http1.Field
}

func (n *nowhere) RoundTrip(context.Context, *upstream.Request) (*upstream.Response, error) {
	n.reached = time.Now()
	n.fields[0] = http1.Field{Name: "X-Api", Value: "yes"}
	n.answer = upstream.Response{Status: http.StatusOK, Fields: n.fields[:1], Body: http.NoBody}
	return &n.answer, nil
}

func (n *nowhere) CloseIdleConnections() {}

// discard is a ResponseWriter as light as the gate's own.
type discard struct {
	header http.Header
	fields []http1.Field
	sent   []http1.Field
}

func (d *discard) Header() http.Header              { return d.header }
func (d *discard) Write(p []byte) (int, error)      { return len(p), nil }
func (d *discard) WriteHeader(int)                  {}
func (d *discard) SetWriteDeadline(time.Time) error { return nil }
func (d *discard) TakeConn() (net.Conn, []byte, error) {
	return nil, nil, http.ErrNotSupported
}
func (d *discard) RequestFields() []http1.Field                     { return d.fields }
func (d *discard) WriteFields(_ int, fields []http1.Field, _ int64) { d.sent = fields }
func (d *discard) BodyArrived() bool                                { return true }
func (d *discard) SetTrailer([]http1.Field)                         {}
func (d *discard) CloseAfter()                                      {}

// newHit returns a harness, its upstream, and a function that serves a granted request.
func newHit(t testing.TB) (*harness, *nowhere, func()) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard, func(cfg *config.Config) { cfg.Log = config.Default().Log })
	up := s.proxy.upstreams["accounts"]
	reached := &nowhere{}
	up.RoundTripper = reached
	r, w := s.request(), &discard{header: http.Header{}}
	for name := range r.Header {
		w.fields = append(w.fields, http1.Field{Name: name, Value: r.Header.Get(name)})
	}
	serve := func() {
		clear(w.header)
		s.proxy.ServeHTTP(w, r)
	}
	serve() // the first one fills the cache
	return s, reached, serve
}

// BenchmarkHit measures the handler with a cached token, including log line and metrics, and an
// upstream that costs nothing. ns/to-upstream is the time before the upstream is called.
func BenchmarkHit(b *testing.B) {
	_, upstream, serve := newHit(b)
	b.ReportAllocs()
	var before time.Duration
	for b.Loop() {
		start := time.Now()
		serve()
		before += upstream.reached.Sub(start)
	}
	b.ReportMetric(float64(before.Nanoseconds())/float64(b.N), "ns/to-upstream")
}

// TestHitAllocations checks the budget of the granted path: the exchange and the id. Under the race detector sync.Pool drops one item in four on
// purpose, which is not counted.
func TestHitAllocations(t *testing.T) {
	budget := 2.0
	if raceEnabled() {
		budget += 5
	}
	_, _, serve := newHit(t)
	if n := testing.AllocsPerRun(1000, serve); n > budget {
		t.Errorf("a granted request takes %v allocations, want at most %v", n, budget)
	}
}

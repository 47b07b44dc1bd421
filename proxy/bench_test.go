package proxy

import (
	"context"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
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

// discard is a ResponseWriter as light as net/http's own.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func (d *discard) SetWriteDeadline(time.Time) error { return nil }

// newHit returns a harness, its upstream, and a function that serves a granted request.
func newHit(t testing.TB) (*harness, *nowhere, func()) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard, func(cfg *config.Config) { cfg.Log = config.Default().Log })
	up := s.proxy.upstreams["accounts"]
	reached := &nowhere{}
	up.RoundTripper = reached
	r, w := s.request(), &discard{http.Header{}}
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

// TestHitAllocations checks the budget of the granted path, without the allocations of the upstream's client: the
// exchange, the id, the callback for informational responses, and the headers that discard gets. Under the
// race detector sync.Pool drops one item in four on purpose, which is not counted.
func TestHitAllocations(t *testing.T) {
	budget := 8.0
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		budget += 5
	}
	_, _, serve := newHit(t)
	if n := testing.AllocsPerRun(1000, serve); n > budget {
		t.Errorf("a granted request takes %v allocations, want at most %v", n, budget)
	}
}

package loadshed

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Connections are refused before requests are, and both are accepted again once memory is free.
func TestMemory(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := New(registry, "partners", "issuer")
	overloaded := w.Overloaded(&w.Partners, 1)
	if w.LowMemory() || overloaded() {
		t.Error("got LowMemory or Overloaded without a limit, want neither")
	}
	w.MaxMemory = 100 << 20
	for _, c := range []struct {
		used              int64
		crowded, overload bool
	}{{74 << 20, false, false}, {76 << 20, true, false}, {87 << 20, true, false}, {89 << 20, true, true}, {10 << 20, false, false}} {
		w.used.Store(c.used)
		w.measured.Store(int64(time.Hour)) // not measured again for a while
		if w.LowMemory() != c.crowded || overloaded() != c.overload {
			t.Errorf("with %d MiB of 100: got LowMemory %v and overloaded %v", c.used>>20, w.LowMemory(), overloaded())
		}
	}
	w.used.Store(1 << 40)
	w.measured.Store(-int64(time.Hour)) // measured again at once
	ballast := make([]byte, 1<<20)
	if w.MaxMemory = 1 << 50; overloaded() || w.used.Load() < int64(len(ballast)) || w.used.Load() > 1<<34 {
		t.Errorf("measured %d bytes in use, want a plausible number", w.used.Load())
	}
	w.Partners.Store(2)
	if !overloaded() {
		t.Error("two requests with a limit of one: got not overloaded, want overloaded")
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP tallygate_requests_in_flight Concurrent requests by listener; the issuer's mutual TLS alias counts as issuer.
# TYPE tallygate_requests_in_flight gauge
tallygate_requests_in_flight{listener="issuer"} 0
tallygate_requests_in_flight{listener="partners"} 2
`)); err != nil {
		t.Error(err)
	}
}

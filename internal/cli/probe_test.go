package cli

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// The last call of drain --wait is often running when the time is over. The error still has the gate's
// previous answer.
func TestAwaitSaysTheLastAnswer(t *testing.T) {
	var calls atomic.Int64
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 1 {
			<-r.Context().Done()
			return
		}
		http.Error(w, "draining: 1 concurrent requests", http.StatusServiceUnavailable)
	}))
	defer gate.Close()
	p := prober{address: gate.Listener.Addr().String()}
	err := p.await(t.Context(), 300*time.Millisecond)
	const want = `not drained within 300ms: the gate says "draining: 1 concurrent requests"`
	if err == nil || err.Error() != want {
		t.Errorf("await: %v, want %s", err, want)
	}
}

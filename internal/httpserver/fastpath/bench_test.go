package fastpath

import (
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"testing"
)

// The budget of a request on the fast path, with its client's two reads and writes of TLS: at most 21
// allocations, of which net/http's parser makes most. The race detector makes sync.Pool
// forget one in four, on purpose.
func TestAllocations(t *testing.T) {
	budget := 21.0
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		budget += 5
	}
	body := make([]byte, 1<<10)
	r := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"], h["Content-Length"], h["Date"] = []string{"application/json"}, []string{"1024"}, []string{"Wed, 25 Nov 2026 12:00:00 GMT"}
		_, _ = w.Write(body)
	}, true)
	c := r.dial(t)
	asked := []byte("GET /accounts/7 HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer x\r\nAccept: */*\r\n\r\n")
	const head = len("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nContent-Type: application/json\r\nDate: Wed, 25 Nov 2026 12:00:00 GMT\r\n\r\n")
	answer := make([]byte, head+len(body))
	once := func() {
		if _, err := c.Write(asked); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, once); n > budget {
		t.Errorf("a request takes %v allocations, the budget is %v", n, budget)
	}
}

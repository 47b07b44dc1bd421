package upstream

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A server closes each connection that has been idle for as long as it allows. Requests that must not be
// repeated do not meet that moment, because the client stops using a connection earlier, by the ratio of the default
// of upstream.idle_timeout (4 s) to the limit of common servers (5 s).
func TestServerThatClosesIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	const limit, callers, rounds = 200 * time.Millisecond, 50, 12 // 50 * 12 = 600 requests
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closing := &http.Server{IdleTimeout: limit, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "fine")
	})}
	go func() { _ = closing.Serve(l) }()
	t.Cleanup(func() { _ = closing.Close() })
	c := clientOf(t, &server{listener: l}, nil, enough)
	c.MaxIdle, c.IdleTimeout = callers, limit*4/5
	var failed atomic.Int64
	var wait sync.WaitGroup
	for caller := range callers {
		wait.Go(func() {
			for range rounds {
				r := request(t, "POST", "")
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader("hello")), 5
				if o := ask(c, r); o.Body != "fine" {
					failed.Add(1)
				}
				// The server's limit is between two requests of the slowest and the fastest caller.
				time.Sleep(limit + time.Duration(caller-callers/2)*40*time.Microsecond)
			}
		})
	}
	wait.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d POSTs failed, want 0", n, callers*rounds)
	}
}

package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stressed returns how many requests a stress test sends: a shortened form, or as many as
// TALLYGATE_REQUESTS says.
func stressed(t *testing.T, short int) int {
	t.Helper()
	all := os.Getenv("TALLYGATE_REQUESTS")
	if all == "" {
		return short
	}
	n, err := strconv.Atoi(all)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// answeringTwice answers each request with its own path, and one in so many, after a pause, with
// poison.
func answeringTwice(oneIn int64, pause time.Duration) connHandler {
	return func(s *server, conn net.Conn, in *bufio.Reader) {
		for {
			r := s.next(in)
			if r == nil {
				return
			}
			if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path); err != nil {
				return
			}
			if s.requests.Load()%oneIn != 0 {
				continue
			}
			for until := time.Now().Add(pause); time.Now().Before(until); { // more exact than to sleep
			}
			if _, err := io.WriteString(conn, poison); err != nil {
				return
			}
		}
	}
}

// T-ADD-15: the second answer to a request is never another request's, whether it comes at once
// or while the connection settles, from a server that answers each request twice or one in a
// thousand. TALLYGATE_REQUESTS=100000 sends as many of each kind, and also has the server pause
// between its answers; that needs a machine that has nothing else to do.
func TestSecondAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	all, pauses := stressed(t, 1200), []time.Duration{0}
	if all != 1200 {
		pauses = append(pauses, 20*time.Microsecond, 500*time.Microsecond)
	}
	for _, encrypted := range []bool{false, true} {
		for _, oneIn := range []int64{1, 1000} {
			for _, pause := range pauses {
				t.Run(fmt.Sprintf("one in %d after %s, TLS %v", oneIn, pause, encrypted), func(t *testing.T) {
					offered, client := secure()
					if !encrypted {
						offered, client = nil, nil
					}
					s := listen(t, offered, answeringTwice(oneIn, pause))
					direct := clientOf(t, s, client, enough)
					// The gate settles for 1 ms; a machine with more to do than this test may
					// stop the server between its two answers for longer.
					direct.Settle, direct.MaxIdle = 200*time.Millisecond, 1024
					var told atomic.Int64
					direct.Unasked = func() { told.Add(1) }
					began := time.Now()
					var callers sync.WaitGroup
					for caller := range 4 {
						callers.Go(func() {
							for i := range all / 4 {
								r := request(t, "POST", "hello")
								r.URL.Path = fmt.Sprintf("/%d/%d", caller, i)
								if o := ask(direct, r); o.Err != "" || o.Body != r.URL.Path {
									t.Errorf("request %s: answered %+v", r.URL.Path, o)
								}
							}
						})
					}
					callers.Wait()
					most := 1 + int64(time.Since(began)/distrusted)
					if n := told.Load(); n > most || n == 0 && oneIn == 1 {
						t.Errorf("Unasked was called %d times, want once a minute", n)
					}
				})
			}
		}
	}
}

// While a server is distrusted, no connection is used twice; afterwards connections are reused. The
// 408 that a server sends before it closes an idle connection is no second answer.
func TestDistrust(t *testing.T) {
	for said, want := range map[string]int64{poison: 4, timeoutStatus + " Request Timeout\r\n\r\n": 2} {
		second := make(chan struct{})
		s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
			for s.next(in) != nil {
				_, _ = io.WriteString(conn, fine)
				if s.requests.Load() == 1 {
					time.Sleep(10 * time.Millisecond) // apart from the answer
					_, _ = io.WriteString(conn, said)
					close(second)
				}
			}
		})
		direct := clientOf(t, s, nil, enough)
		for n := range 4 {
			if o := ask(direct, request(t, "GET", "")); o.Body != "fine" {
				t.Fatalf("request %d: %+v", n, o)
			}
			if n == 0 {
				<-second
				time.Sleep(10 * time.Millisecond) // on loopback it has arrived
			}
		}
		if got := s.connections.Load(); got != want {
			t.Errorf("after %q, 4 requests took %d connections, want %d", said, got, want)
		}
		direct.pool.until = time.Now()
		for range 2 {
			_ = ask(direct, request(t, "GET", ""))
		}
		if got := s.connections.Load(); got > want+1 {
			t.Errorf("after %q, once the time is over, connections are still used once: %d", said, got)
		}
	}
}

// A connection is not used again before it has settled.
func TestSettle(t *testing.T) {
	s := listen(t, nil, answering(fine, false))
	direct := clientOf(t, s, nil, enough)
	direct.Settle = time.Minute
	for range 2 {
		_ = ask(direct, request(t, "GET", ""))
	}
	if got := s.connections.Load(); got != 2 {
		t.Errorf("2 requests took %d connections, want 2", got)
	}
	for _, c := range direct.pool.held() {
		c.idleSince = c.idleSince.Add(-2 * time.Minute)
	}
	direct.IdleTimeout = time.Hour
	_ = ask(direct, request(t, "GET", ""))
	if got := s.connections.Load(); got != 2 {
		t.Errorf("after a minute a third request took connection %d, want none", got)
	}
}

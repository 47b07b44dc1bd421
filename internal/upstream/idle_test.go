package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A server closes each connection that has been idle for as long as it allows. No request that must not be repeated
// is sent at that moment, because the client stops using a connection earlier, by the ratio of the default of
// upstream.idle_timeout (4 s) to the limit of common servers (5 s).
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

// The peer of a stuffed connection stops reading when full is set, so that a write waits.
type stuffed struct {
	*net.TCPConn
	full   atomic.Bool
	closed chan struct{}
}

func (s *stuffed) Write(p []byte) (int, error) {
	if s.full.Load() {
		<-s.closed
		return 0, net.ErrClosed
	}
	return s.TCPConn.Write(p)
}

func (s *stuffed) Close() error {
	if s.full.Swap(false) {
		close(s.closed)
	}
	return s.TCPConn.Close()
}

// The check of an idle connection holds the lock that every request needs. crypto/tls answers a bad record with an alert,
// but a server that reads nothing cannot make the check wait until the alert is sent.
func TestIdleCheckDoesNotWait(t *testing.T) {
	settings, trusting := secure()
	said := make(chan struct{}, 2)
	s := listen(t, settings, func(s *server, conn net.Conn, in *bufio.Reader) {
		first := s.connections.Load() == 1
		for s.next(in) != nil {
			_, _ = io.WriteString(conn, fine)
			if first {
				time.Sleep(10 * time.Millisecond) // apart from the answer
				_, _ = io.WriteString(conn.(*tls.Conn).NetConn(), "\x17\x03\x03\x00\x20"+strings.Repeat("x", 0x20))
				said <- struct{}{}
			}
		}
	})
	direct := clientOf(t, s, trusting, enough)
	var dialed []*stuffed
	dial := direct.Dial
	direct.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		dialed = append(dialed, &stuffed{TCPConn: conn.(*net.TCPConn), closed: make(chan struct{})})
		return dialed[len(dialed)-1], nil
	}
	if o := ask(direct, request(t, "GET", "")); o.Body != "fine" {
		t.Fatalf("the first request: %+v", o)
	}
	<-said
	time.Sleep(10 * time.Millisecond) // on loopback the record has arrived
	dialed[0].full.Store(true)
	release := time.AfterFunc(enough/2, func() {
		t.Error("the check of an idle connection waits for the server to read")
		_ = dialed[0].Close()
	})
	if o := ask(direct, request(t, "GET", "")); o.Body != "fine" {
		t.Errorf("the second request: %+v", o)
	}
	release.Stop()
	if n := s.connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

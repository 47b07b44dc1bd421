package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// holding answers when n requests are there, so that there are n connections.
func holding(n int) connHandler {
	var mu sync.Mutex
	waiting, all := 0, make(chan struct{})
	return func(s *server, conn net.Conn, in *bufio.Reader) {
		for s.next(in) != nil {
			mu.Lock()
			if waiting++; waiting == n {
				close(all)
			}
			mu.Unlock()
			<-all
			_, _ = io.WriteString(conn, fine)
		}
	}
}

// together sends n requests at once.
func together(t *testing.T, transport http.RoundTripper, n int) {
	t.Helper()
	var wait sync.WaitGroup
	for range n {
		wait.Go(func() {
			if o := ask(transport, request(t, "GET", "")); o.Body != "fine" {
				t.Errorf("answered %+v", o)
			}
		})
	}
	wait.Wait()
}

// held returns the pool's connections.
func (p *pool) held() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*conn(nil), p.idle...)
}

func (s *server) living() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func TestPool(t *testing.T) {
	const n = 12 // 8 of these connections may be kept
	s := listen(t, nil, holding(n))
	direct := clientOf(t, s, nil, enough)
	together(t, direct, n)
	held := direct.pool.held()
	if len(held) != 8 || direct.pool.timer == nil {
		t.Fatalf("%d connections are kept, want 8", len(held))
	}
	gatetest.Eventually(t, "the other connections are closed", func() bool { return s.living() == 8 })

	// The connection that was used last is used first, so that the other connections reach their idle timeout.
	for range 3 {
		together(t, direct, 1)
	}
	if now := direct.pool.held(); len(now) != 8 || now[7] != held[7] || s.connections.Load() != n {
		t.Errorf("%d connections, of %d made", len(now), s.connections.Load())
	}

	// Idle connections have no buffers.
	for _, c := range direct.pool.held() {
		if c.Buffers != nil {
			t.Error("an idle connection has buffers")
		}
	}

	// The pool closes connections that are too old and connections that the server has closed.
	direct.pool.mu.Lock()
	for _, c := range direct.pool.idle[:3] {
		c.idleSince = c.idleSince.Add(-time.Hour)
	}
	direct.pool.mu.Unlock()
	direct.pool.sweep(direct.Client)
	if now := direct.pool.held(); len(now) != 5 || now[0] != held[3] || direct.pool.timer == nil {
		t.Errorf("%d connections are left, want 5", len(now))
	}
	gatetest.Eventually(t, "the old connections are closed", func() bool { return s.living() == 5 })
	s.mu.Lock()
	for conn := range s.open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	gatetest.Eventually(t, "the closed connections are forgotten", func() bool {
		direct.pool.sweep(direct.Client)
		return len(direct.pool.held()) == 0
	})
	if direct.pool.timer != nil {
		t.Error("the pool is swept though it is empty")
	}

	together(t, direct, 1)
	if direct.pool.timer == nil {
		t.Error("the pool is not swept")
	}
	direct.CloseIdleConnections()
	direct.CloseIdleConnections()
	if len(direct.pool.held()) != 0 || direct.pool.timer != nil {
		t.Error("connections are left")
	}
	gatetest.Eventually(t, "every connection is closed", func() bool { return s.living() == 0 })
}

// A connection that has been idle for too long is not used, swept or not.
func TestIdleTimeout(t *testing.T) {
	s := listen(t, nil, answering(fine, false))
	direct := clientOf(t, s, nil, enough)
	for _, n := range []int64{1, 2} {
		together(t, direct, 1)
		if got := s.connections.Load(); got != n {
			t.Errorf("%d connections, want %d", got, n)
		}
		direct.pool.held()[0].idleSince = time.Now().Add(-direct.IdleTimeout)
	}
}

// Many requests run at once over a few connections, and some of them fail. No request gets the
// response to another request, and no connection or goroutine is left at the end.
func TestCrowd(t *testing.T) {
	before := descriptors(t)
	settings, trusting := secure()
	for _, kind := range []string{"tcp", "unix", "tls"} {
		network, address := kind, "127.0.0.1:0"
		offered, client := settings, trusting
		switch kind {
		case "unix":
			address = filepath.Join(t.TempDir(), "s")
		case "tls":
			network = "tcp"
		}
		if kind != "tls" {
			offered, client = nil, nil
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		s := serveOn(t, l, offered, func(s *server, conn net.Conn, in *bufio.Reader) {
			for {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				body, _ := io.ReadAll(r.Body)
				text := r.URL.Path + string(body)
				switch len(text) % 5 {
				case 0:
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+text)
					return
				case 1:
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk(text[:1])+chunk(text[1:])+"0\r\n\r\n")
				case 2:
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+length(text)+"\r\n\r\n"+text+"excess")
				default:
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+length(text)+"\r\n\r\n"+text)
				}
			}
		})
		direct := clientOf(t, s, client, enough)
		var wait sync.WaitGroup
		for n := range 16 {
			wait.Go(func() { member(t, direct, n) })
		}
		wait.Wait()
		direct.CloseIdleConnections()
		gatetest.Eventually(t, "every connection is closed", func() bool { return s.living() == 0 })
		_ = l.Close()
	}
	gatetest.Eventually(t, "every descriptor is closed", func() bool { return descriptors(t) <= before })
}

// member sends requests one after the other, of which some are given up.
func member(t *testing.T, transport http.RoundTripper, n int) {
	for i := range 60 {
		ctx, cancel := context.WithCancel(t.Context())
		method, body := http.MethodGet, ""
		if i%2 == 1 {
			method, body = http.MethodPost, strings.Repeat("b", i)
		}
		r := request(t, method, body).WithContext(ctx)
		r.URL.Path = fmt.Sprintf("/%d/%d", n, i)
		giveUp := i%7 == 3
		if giveUp {
			time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
		}
		o := ask(transport, r)
		cancel()
		if o.Err == "" && o.Body != r.URL.Path+body || o.Err != "" && (!giveUp || o.Err != "canceled") {
			t.Errorf("%s %s is answered %+v", method, r.URL.Path, o)
			return
		}
	}
}

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

func length(text string) string { return strconv.Itoa(len(text)) }

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		gatetest.SkipOutsideCI(t, err)
	}
	return len(entries)
}

package httpserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// echo answers with the method, the target and the body.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
}

// If a client disconnects while it waits for a response, the server notices it and cancels the request. A
// client that has sent its last byte has left too, unless its response comes soon.
func TestClientLeaves(t *testing.T) {
	for name, leave := range map[string]func(*tls.Conn) error{
		"with close_notify":     func(c *tls.Conn) error { return c.Close() },
		"half":                  func(c *tls.Conn) error { return c.CloseWrite() },
		"without close_notify":  func(c *tls.Conn) error { return c.NetConn().Close() },
		"in the middle of body": func(c *tls.Conn) error { return c.NetConn().Close() },
	} {
		began, cancelled := make(chan struct{}), make(chan error, 1)
		s := quick(newTestServer(t, func(_ http.ResponseWriter, r *http.Request) {
			close(began)
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			cancelled <- r.Context().Err()
		}))
		c := s.dial(t).(*tls.Conn)
		request := get
		if strings.Contains(name, "body") {
			request = "POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbo"
		}
		send(t, c, request)
		<-began
		if err := leave(c); err != nil {
			t.Error(err)
		}
		if err := <-cancelled; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the context has the error %v, want Canceled", name, err)
		}
		gatetest.EventuallyEqual(t, "open connections", 0, s.open)
	}
}

// A client may end its direction after the request.
func TestHalfClosedClient(t *testing.T) {
	for name, change := range map[string]func(*Server){"TLS": func(*Server) {}, "no TLS": plain} {
		s := newTestServer(t, echo, change)
		c := s.dial(t)
		send(t, c, "POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody")
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(all), "POST / body") {
			t.Errorf("%s: got %q, %v", name, all, err)
		}
	}
}

// Bytes that the client sends while it waits are its next requests, in any pieces. They do not cancel a
// request.
func TestEarlyRequests(t *testing.T) {
	const patience = 5 * time.Millisecond
	var served atomic.Int64
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * patience)
		if r.Context().Err() != nil {
			t.Error(r.Context().Err())
		}
		served.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, r.RequestURI)
	})
	s.patience = patience
	want := 0
	for _, pieces := range [][]string{
		{"GET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\n"},
		{"G", "ET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\n"},
		{"G", "E", "T /2 HTTP/1.1\r\nHost: gate.test\r\n", "\r\n"},
		{"GET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\nGET /3 HTTP/1.1\r\nHost: gate.test\r\n\r\nG", "ET /4 HTTP/1.1\r\nHost: gate.test\r\n\r\n"},
		{"\r", "\n", "\r\n", "GET /2 HTTP/1.1\r\nHost: gate.test\r\n\r\n"},
		{"\r\n", "GET /2 HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"},
	} {
		for _, pause := range []time.Duration{0, patience * 3 / 2} {
			c := s.dial(t)
			in := bufio.NewReader(c)
			send(t, c, "POST /1 HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody")
			for _, piece := range pieces {
				time.Sleep(pause)
				send(t, c, piece)
			}
			n := 1 + strings.Count(strings.Join(pieces, ""), " HTTP/1.1")
			for i := range n {
				next(t, in, "/"+string(rune('1'+i)))
			}
			want += n
			_ = c.Close()
		}
	}
	if n := served.Load(); n != int64(want) {
		t.Errorf("%d requests were served, want %d", n, want)
	}
}

// A panic closes its own connection and is reported, unless it is http.ErrAbortHandler.
func TestPanic(t *testing.T) {
	s := newTestServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/meant" {
			panic(http.ErrAbortHandler)
		}
		panic("a bug with a secret")
	})
	for told, path := range []string{"/meant", "/"} {
		if got := s.ask(t, "GET "+path+" HTTP/1.1\r\nHost: gate.test\r\n\r\n"); got != "" {
			t.Errorf("%s is answered with %q, want nothing", path, got)
		}
		gatetest.EventuallyEqual(t, "open connections", 0, s.open)
		if len(s.panics) != told {
			t.Errorf("%s: %d panics are reported, want %d", path, len(s.panics), told)
		}
	}
	if p := <-s.panics; strings.Contains(p.Error(), "secret") || !strings.Contains(p.Stack, "TestPanic") {
		t.Errorf("got %v with the stack %s, want the stack of the panic without its text", p, p.Stack)
	}
	s = newTestServer(t, echo)
	s.Handler = nil // a panic outside the handler
	if got := s.ask(t, get); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	gatetest.EventuallyEqual(t, "open connections", 0, s.open)
}

// A body cannot be read after its request has ended, and its end does not wait for a client that sends
// nothing.
func TestBodyOutlivesItsRequest(t *testing.T) {
	bodies, read := make(chan io.ReadCloser, 2), make(chan error, 1)
	s := newTestServer(t, func(_ http.ResponseWriter, r *http.Request) {
		bodies <- r.Body
		if r.RequestURI != "/stuck" {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		go func() {
			_, err := r.Body.Read(make([]byte, 9))
			read <- err
		}()
		time.Sleep(5 * time.Millisecond)
	})
	c := s.dial(t)
	in := bufio.NewReader(c)
	for range 2 {
		send(t, c, "POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody")
		next(t, in, "")
	}
	if n, err := (<-bodies).Read(make([]byte, 9)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("a late read returns %d, %v, want ErrBodyReadAfterClose", n, err)
	}
	<-bodies
	send(t, c, "POST /stuck HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\n")
	if last := next(t, in, ""); !last {
		t.Error("the response to a request with an unread body does not close the connection")
	}
	if err := <-read; err == nil {
		t.Error("the read of the stuck body succeeded, want an error")
	}
	<-bodies
}

// The end of a request does not depend on what its handler does to it: no part of a body is ever the next
// request.
func TestHandlerTakesBodyAway(t *testing.T) {
	var mu sync.Mutex
	var served []string
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		served = append(served, r.RequestURI)
		if r.RequestURI == "/read" {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		r.Body, r.ContentLength, r.Method, r.Header = http.MaxBytesReader(w, r.Body, 1), 3, "GET", nil
		if r.RequestURI == "/none" {
			r.Body = nil
		}
	})
	for path, want := range map[string]int{"/bounded": 1, "/none": 1, "/read": 2} {
		for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(get), get), fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(get), get)} {
			got := s.ask(t, "POST "+path+" HTTP/1.1\r\nHost: gate.test\r\n"+framing+until)
			if n := strings.Count(got, "HTTP/1.1 200"); n != want || (want == 1) != strings.Contains(got, "Connection: close\r\nTransfer") && want == 1 && !strings.Contains(got, "Connection: close") {
				t.Errorf("%s has %d responses, want %d: %q", path, n, want, got)
			}
		}
	}
	if slices.Contains(served, "/") {
		t.Errorf("a body was served as a request: %q", served)
	}
}

// A client that accepts nothing ends its response at the deadline that the handler sets. The next request
// has its own deadline.
func TestWriteDeadline(t *testing.T) {
	failed := make(chan error, 1)
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/short" {
			_, _ = io.WriteString(w, "fine")
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		if r.RequestURI == "/much" {
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					failed <- err
					break
				}
			}
			<-r.Context().Done()
		}
	})
	c := s.dial(t)
	in := bufio.NewReader(c)
	send(t, c, get)
	next(t, in, "")
	time.Sleep(40 * time.Millisecond)
	send(t, c, "GET /short HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	next(t, in, "fine")
	send(t, c, "GET /much HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	if err := <-failed; err == nil {
		t.Error("all was written, want an error")
	}
	gatetest.EventuallyEqual(t, "open connections", 0, s.open)
}

// After a write that failed, the client gets no further TLS record: crypto/tls has counted the record that was not
// sent, so the client would report the next one as tampered with.
func TestNoRecordAfterFailedWrite(t *testing.T) {
	s := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(past)
		_, _ = io.WriteString(w, "never sent")
	})
	c := s.dial(t)
	send(t, c, get)
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil && strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("the client read %q, %v, want the end of the connection alone", got, err)
	}
}

// Each write to a client may take one stall timeout, if the handler sets no deadline. A deadline of the handler wins
// until the handler removes it.
func TestStallTimeout(t *testing.T) {
	failed := make(chan error, 1)
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/fixed" {
			_ = http.NewResponseController(w).SetWriteDeadline(past)
			_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
			_, _ = io.WriteString(w, "fine")
			return
		}
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				failed <- err
				return
			}
		}
	}, func(s *Server) { s.Limits.StallTimeout = 100 * time.Millisecond })
	c := s.dial(t)
	send(t, c, "GET /fixed HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	next(t, bufio.NewReader(c), "fine")
	send(t, c, get)
	select {
	case err := <-failed:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write to a client that reads nothing returned %v, want a timeout", err)
		}
	case <-time.After(testTimeout):
		t.Fatal("Write to a client that reads nothing did not return")
	}
	gatetest.EventuallyEqual(t, "open connections", 0, s.open)
}

// The server bounds a whole request and its response if the handler does not.
func TestServerBoundsTime(t *testing.T) {
	s := newTestServer(t, echo, func(s *Server) {
		s.HandlerBoundsTime, s.Limits.HeaderTimeout = false, 50*time.Millisecond
	})
	for _, text := range []string{"", "GET / HT", "\r\n", "POST / HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbo"} {
		began := time.Now()
		got := s.ask(t, text)
		if strings.HasPrefix(text, "POST") != strings.HasPrefix(got, "HTTP/1.1 400 ") || time.Since(began) < s.Limits.HeaderTimeout {
			t.Errorf("after %q: got %q after %s", text, got, time.Since(began))
		}
	}
}

// No byte of a request is lost or misplaced, for all sizes and pauses of the pieces, and for all
// positions of the buffers' ends.
func TestAnyPieces(t *testing.T) {
	t.Parallel()
	s := quick(newTestServer(t, echo))
	for range 6 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			c := s.dial(t)
			var all bytes.Buffer
			var want []string
			for i := range 30 {
				body := strings.Repeat("\r\n", rand.IntN(4)) + strings.Repeat("GE", rand.IntN(3)*rand.IntN(4000))
				target := fmt.Sprintf("/%d?%s", i, strings.Repeat("x", rand.IntN(3)*rand.IntN(6000)))
				switch rand.IntN(3) {
				case 0:
					fmt.Fprintf(&all, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body)
				case 1:
					fmt.Fprintf(&all, "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", target, len(body)+1, body+".")
					body += "."
				default:
					fmt.Fprintf(&all, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target)
					want = append(want, "GET "+target+" ")
					continue
				}
				want = append(want, "POST "+target+" "+body)
			}
			go func() {
				for all.Len() > 0 {
					if _, err := c.Write(all.Next(1 + rand.IntN(1+rand.IntN(1000)))); err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(max(0, rand.IntN(8)-4)) * s.parkAfter)
				}
			}()
			in := bufio.NewReader(c)
			for _, w := range want {
				next(t, in, w)
			}
		})
	}
}

// A connection becomes idle and busy any number of times. It ends with its client, with its idle timeout or
// with the server.
func TestIdleConnections(t *testing.T) {
	s := quick(newTestServer(t, echo))
	c := s.dial(t)
	in := bufio.NewReader(c)
	const first, second = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
	for n := range len(second) {
		send(t, c, first+second[:n])
		next(t, in, "POST /1 ab")
		time.Sleep(3 * s.parkAfter)
		if got := s.idle(); (got == 1) != (n == 0) {
			t.Errorf("with %q of the next request, %d connections are idle", second[:n], got)
		}
		send(t, c, second[n:])
		next(t, in, "GET /next ")
	}
	_ = c.Close()
	gatetest.EventuallyEqual(t, "open connections", 0, s.open)

	s = newTestServer(t, echo, func(s *Server) {
		s.Limits.IdleTimeout, s.Limits.HeaderTimeout = 50*time.Millisecond, 100*time.Millisecond
	})
	quick(s)
	c = s.dial(t)
	in = bufio.NewReader(c)
	began := time.Now()
	send(t, c, get)
	next(t, in, "GET / ")
	if _, err := in.ReadByte(); err != io.EOF || time.Since(began) < 50*time.Millisecond || time.Since(began) > testTimeout/2 {
		t.Errorf("an idle connection ends with %v after %s, want EOF after 50 ms", err, time.Since(began))
	}
}

// Buffers that other connections have used show nothing of them, neither to clients nor to handlers.
func TestBuffersAreNotSeen(t *testing.T) {
	const canary = "CANARY"
	seen := func(r *http.Request) string {
		body, _ := io.ReadAll(r.Body)
		return fmt.Sprint(r.Method, r.RequestURI, r.Host, r.Header, r.Trailer, string(body))
	}
	s := quick(newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if text := seen(r); strings.Contains(text, canary) != (r.RequestURI == "/"+canary) {
			t.Errorf("the handler of %s sees %.200s", r.RequestURI, text)
		}
		if r.RequestURI == "/"+canary {
			w.Header().Set("X-Canary", strings.Repeat(canary, 100))
			_, _ = io.WriteString(w, strings.Repeat(canary, 300))
			return
		}
		_, _ = io.WriteString(w, "fine")
	}))
	poison := "POST /" + canary + " HTTP/1.1\r\nHost: " + canary + "\r\nX: " + strings.Repeat(canary, 900) + "\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"258\r\n" + strings.Repeat(canary, 100) + "\r\n0\r\nX-Trailer: " + canary + "\r\n\r\n"
	for range 20 {
		if got := s.ask(t, poison+poison+until); strings.Count(got, "HTTP/1.1 200") != 3 {
			t.Fatalf("got %.200q", got)
		}
		for _, request := range []string{get + until, "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + until, "BROKEN\r\n"} {
			if got := s.ask(t, request); strings.Contains(got, canary) {
				t.Errorf("%q is answered with %q", request, got)
			}
		}
	}
}

// Package assumptions tests what the gate assumes about Go's standard library and
// golang.org/x/net beyond their documentation. docs/stdlib-assumptions.md says which code relies on
// each assumption. The tests use no code of the gate, so that a failure after an update names the
// behaviour that has changed.
package assumptions

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// serve serves HTTP/1.1 without TLS until the test ends and returns the server and its address. Each
// accepted connection is replaced by the result of wrap.
func serve(t *testing.T, server *http.Server, wrap func(net.Conn) net.Conn) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if server.ErrorLog == nil {
		server.ErrorLog = log.New(io.Discard, "", 0)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(wrapListener{l, wrap})
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return l.Addr().String()
}

type wrapListener struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l wrapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.wrap == nil {
		return c, err
	}
	return l.wrap(c), nil
}

// dial connects to address. Reads and writes fail after ten seconds.
func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, bufio.NewReader(c)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// answer reads a response and returns its body.
func answer(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// After a MaxBytesReader has found a body too long, net/http ends its direction of the connection and
// waits, so that a client that still sends gets no reset.
func TestAssumesMaxBytesReaderLingers(t *testing.T) {
	address := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1))
		_, _ = io.WriteString(w, "refused")
	})}, nil)
	c, in := dial(t, address)
	send(t, c, get)
	if got := answer(t, in); got != "refused" {
		t.Fatalf("the body of the response is %q, want refused", got)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatalf("reading after the response returned %v, want EOF", err)
	}
	for range 2 { // after a close, the first write causes a reset, and the second write fails
		send(t, c, "more of the body")
		time.Sleep(20 * time.Millisecond) // time for a reset to arrive; the server waits for 500 ms
	}
}

// A read deadline in the past ends the background read, and net/http cancels the contexts of this and
// of every later request on the connection.
func TestAssumesReadDeadlineCancelsConnection(t *testing.T) {
	canceled := make(chan error, 1)
	address := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/second" {
			canceled <- r.Context().Err()
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // starts the background read
		if err := http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
			t.Error("the deadline did not cancel the request's context")
		}
	})}, nil)
	c, in := dial(t, address)
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
	answer(t, in)
	send(t, c, strings.Replace(get, "/", "/second", 1))
	answer(t, in)
	if err := <-canceled; !errors.Is(err, context.Canceled) {
		t.Errorf("the context of the next request has the error %v, want Canceled", err)
	}
}

// recorder records the calls of net/http between two requests.
type recorder struct {
	net.Conn
	mu    sync.Mutex
	calls []string
	sizes []int // len(p) of each Read
}

func (r *recorder) add(call string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
}

func (r *recorder) Read(p []byte) (int, error) {
	r.add("Read")
	r.mu.Lock()
	r.sizes = append(r.sizes, len(p))
	r.mu.Unlock()
	return r.Conn.Read(p)
}

func (r *recorder) SetReadDeadline(t time.Time) error {
	r.add("SetReadDeadline")
	return r.Conn.SetReadDeadline(t)
}

// Between two requests net/http calls ConnState(StateIdle), SetReadDeadline, Read and SetReadDeadline
// in this order, and the length of the slice for Read is the free size of its buffer.
func TestAssumesCallsBetweenRequests(t *testing.T) {
	var r *recorder
	idle := make(chan struct{}, 2)
	address := serve(t, &http.Server{
		Handler:     http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute,
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateIdle {
				c.(*recorder).add("StateIdle")
				idle <- struct{}{}
			}
		},
	}, func(c net.Conn) net.Conn {
		r = &recorder{Conn: c}
		return r
	})
	c, in := dial(t, address)
	for range 2 {
		send(t, c, get)
		answer(t, in)
		<-idle
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	from := slices.Index(r.calls, "StateIdle")
	want := []string{"StateIdle", "SetReadDeadline", "Read", "SetReadDeadline"}
	if got := r.calls[from:min(len(r.calls), from+len(want))]; !slices.Equal(got, want) {
		t.Errorf("net/http calls %v after the first response, want %v", got, want)
	}
	if got := slices.Max(r.sizes); got != 4<<10 {
		t.Errorf("net/http reads into a buffer of %d bytes, want 4096", got)
	}
}

// quietConn returns no byte and no error from reads of one byte while it is quiet, as the background
// read of net/http makes them.
type quietConn struct {
	net.Conn
	reads chan struct{}
}

func (c quietConn) Read(p []byte) (int, error) {
	if len(p) == 1 {
		c.reads <- struct{}{}
		return 0, nil
	}
	return c.Conn.Read(p)
}

// A background read that returns no byte and no error ends, and net/http takes it neither for a client
// that left nor for a request.
func TestAssumesEmptyBackgroundReadEnds(t *testing.T) {
	reads := make(chan struct{}, 100)
	address := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-reads:
		case <-time.After(5 * time.Second):
			t.Error("net/http made no background read")
		}
		time.Sleep(20 * time.Millisecond) // time for net/http to act on the read
		if err := r.Context().Err(); err != nil {
			t.Errorf("the context has the error %v after an empty background read, want none", err)
		}
		_, _ = io.WriteString(w, "served")
	})}, func(c net.Conn) net.Conn { return quietConn{c, reads} })
	c, in := dial(t, address)
	for range 2 {
		send(t, c, get)
		if got := answer(t, in); got != "served" {
			t.Errorf("the body of the response is %q, want served", got)
		}
	}
	if n := len(reads); n != 0 {
		t.Errorf("net/http made %d more background reads, want one for each request", n)
	}
}

// net/http reports StateHijacked before Hijack returns.
func TestAssumesHijackedBeforeReturn(t *testing.T) {
	var hijacked atomic.Bool
	address := serve(t, &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			if !hijacked.Load() {
				t.Error("Hijack returned before ConnState(StateHijacked)")
			}
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateHijacked {
				hijacked.Store(true)
			}
		},
	}, nil)
	c, in := dial(t, address)
	send(t, c, get)
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("reading returned %v, want EOF", err)
	}
}

// After Shutdown has begun, net/http reads a request and closes the connection without a response.
func TestAssumesShutdownDropsRequests(t *testing.T) {
	accepted := make(chan struct{})
	server := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler runs, want the request dropped") }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				close(accepted)
			}
		},
	}
	shutting := make(chan struct{})
	server.RegisterOnShutdown(func() { close(shutting) })
	address := serve(t, server, nil)
	c, in := dial(t, address)
	<-accepted
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { done <- server.Shutdown(ctx) }()
	<-shutting
	send(t, c, get)
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("reading returned %v, want EOF", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

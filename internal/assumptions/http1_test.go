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
	"strings"
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

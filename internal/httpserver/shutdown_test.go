package httpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/mtls"
)

func withActive(s *Server) { s.Active = new(atomic.Int64) }

// Shutdown closes idle connections after the grace, and each other connection after its response, which
// says so. A request on its way within the grace is served.
func TestShutdown(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/long" {
			close(began)
			<-end
		}
		_, _ = io.WriteString(w, "fine")
	}, withActive)
	idle, late, busy := s.dial(t), s.dial(t), s.dial(t)
	idleIn, lateIn, busyIn := bufio.NewReader(idle), bufio.NewReader(late), bufio.NewReader(busy)
	for c, in := range map[net.Conn]*bufio.Reader{idle: idleIn, late: lateIn} {
		send(t, c, get)
		next(t, in, "fine")
	}
	shaking, err := net.Dial("tcp", s.address) // its handshake runs when the listener closes
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = shaking.Close() }()
	send(t, busy, "GET /long HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	<-began
	gatetest.EventuallyEqual(t, "open connections", 4, s.open)
	stopped := make(chan error, 1)
	beginning := time.Now()
	go func() { stopped <- s.Shutdown(t.Context(), 2*time.Second) }()
	gatetest.EventuallyEqual(t, "state", draining, s.state.Load)
	send(t, late, get)
	if last := next(t, lateIn, "fine"); !last {
		t.Error("a response while the server drains does not close the connection")
	}
	shaken := tls.Client(shaking, &tls.Config{InsecureSkipVerify: true})
	send(t, shaken, get)
	next(t, bufio.NewReader(shaken), "fine")
	if _, err := idleIn.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection ends with %v, want EOF", err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown returned %v during a request", err)
	default:
	}
	close(end)
	if last := next(t, busyIn, "fine"); !last {
		t.Error("the response does not close the connection")
	}
	if _, err := busyIn.ReadByte(); err != io.EOF {
		t.Errorf("the connection of the request ends with %v, want EOF", err)
	}
	if err := <-stopped; err != nil || time.Since(beginning) > testTimeout/2 {
		t.Errorf("Shutdown returned %v after %s", err, time.Since(beginning))
	}
}

// EndIdle closes the connections that wait for another request, at once or after the response to the current request.
// New connections are served, and so is a connection whose first request is still on its way.
func TestEndIdle(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/long" {
			close(began)
			<-end
		}
		_, _ = io.WriteString(w, "fine")
	})
	waiting, busy, fresh := s.dial(t), s.dial(t), s.dial(t)
	parked := s.dial(t)
	for _, c := range []net.Conn{waiting, parked} {
		send(t, c, get)
		next(t, bufio.NewReader(c), "fine")
	}
	send(t, busy, "GET /long HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	<-began
	gatetest.EventuallyEqual(t, "idle connections", 3, s.idle)
	s.EndIdle()
	for name, c := range map[string]net.Conn{"waiting": waiting, "parked": parked} {
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the %s connection: read %d bytes, %v, want EOF", name, n, err)
		}
	}
	close(end)
	in := bufio.NewReader(busy)
	next(t, in, "fine")
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("the connection of the request ends with %v, want EOF", err)
	}
	for _, c := range []net.Conn{fresh, s.dial(t)} {
		send(t, c, get)
		next(t, bufio.NewReader(c), "fine")
	}
}

// After its context has ended, Shutdown cuts off what remains, and says whether there was a request.
func TestShutdownCutsOff(t *testing.T) {
	for name, active := range map[string]int64{"a request": 1, "half a header": 0} {
		began := make(chan struct{}, 1)
		s := newTestServer(t, func(_ http.ResponseWriter, r *http.Request) {
			began <- struct{}{}
			<-r.Context().Done()
		}, withActive)
		s.patience = time.Millisecond
		c := s.dial(t)
		if active > 0 {
			send(t, c, get)
			<-began
		} else {
			send(t, c, "GET / HT")
			gatetest.EventuallyEqual(t, "idle connections", 0, s.idle)
		}
		s.Active.Store(active)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(ctx, time.Millisecond); (err != nil) != (active > 0) {
			t.Errorf("%s: Shutdown returned %v", name, err)
		}
		if all, _ := io.ReadAll(c); len(all) > 0 {
			t.Errorf("%s: got %q, want nothing", name, all)
		}
		gatetest.EventuallyEqual(t, "open connections", 0, s.open)
	}
}

// A handshake that makes no progress does not hold up a shutdown.
func TestShutdownDuringHandshake(t *testing.T) {
	s := newTestServer(t, echo, withActive)
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	gatetest.EventuallyEqual(t, "open connections", 1, s.open)
	began := time.Now()
	if err := s.Shutdown(t.Context(), 10*time.Millisecond); err != nil || s.open() != 0 || time.Since(began) > testTimeout/2 {
		t.Errorf("Shutdown returned %v after %s, and %d connections are open", err, time.Since(began), s.open())
	}
	if err := <-s.failed; err == nil {
		t.Error("the handshake did not fail")
	}
}

// A panic in a handshake closes that connection only, and its error does not quote the peer.
func TestHandshakePanic(t *testing.T) {
	settings := serverSettings()
	var broken atomic.Bool
	s := newTestServer(t, echo, func(s *Server) {
		s.TLS = mtls.NewListener(func() *tls.Config {
			if broken.Swap(false) {
				panic("a secret")
			}
			return settings
		}, nil)
	})
	broken.Store(true)
	if _, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("the handshake succeeded, want an error")
	}
	var fault *PanicError
	if err := <-s.failed; !errors.As(err, &fault) || strings.Contains(fault.Error(), "secret") || !strings.Contains(fault.Stack, "TestHandshakePanic") {
		t.Errorf("got failure %v, want a PanicError with its stack and without the peer's name", err)
	}
	if got := s.ask(t, until); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("the next connection gets %q", got)
	}
}

// A connection that negotiated HTTP/2 goes to the HTTP/2 server. A client without TLS gets an answer that it
// can read.
func TestProtocols(t *testing.T) {
	s := newTestServer(t, echo)
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{ServerName: "gate.test", InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://" + s.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); response.ProtoMajor != 2 || string(body) != "GET / " {
		t.Errorf("got %s %q, %v, want a response over HTTP/2", response.Proto, body, err)
	}
	raw, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	send(t, raw, get)
	if all, _ := io.ReadAll(raw); !strings.HasPrefix(string(all), "HTTP/1.0 400 ") {
		t.Errorf("a client without TLS gets %q", all)
	}
}

// A failingListener returns errors before it fails for good.
type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return nil, errors.New("broken")
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

type temporaryError struct{}

func (temporaryError) Error() string   { return "no descriptors" }
func (temporaryError) Temporary() bool { return true }

// Serve continues after a temporary error, and returns any other error.
func TestListenerFails(t *testing.T) {
	s := newTestServer(t, echo)
	other := &Server{Name: "broken", Limiter: &ConnLimiter{}, TLS: s.TLS, Limits: s.Limits, ErrorLog: s.ErrorLog, LowMemory: s.LowMemory}
	other.Listen(&failingListener{errs: []error{temporaryError{}, temporaryError{}}})
	if err := other.Serve(); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("Serve returned %v, want the error of the listener", err)
	}
}

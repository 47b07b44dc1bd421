package httpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/mtls"
)

// testTimeout bounds every wait of a test.
const testTimeout = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	get   = "GET / HTTP/1.1\r\nHost: gate.test\r\n\r\n"
	until = "GET /until HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n"
)

var serverPair = testpki.SelfSigned("gate", testpki.DNS("gate.test"))

func serverSettings() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{serverPair.TLS()}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
}

// A testServer is a Server on a port of its own.
type testServer struct {
	*Server
	address string
	failed  chan error       // failed handshakes
	panics  chan *PanicError // panics of handlers
	faults  chan http1.Error // malformed requests
}

// newTestServer serves handler until the test ends. change may change the settings of the Server.
func newTestServer(t testing.TB, handler http.HandlerFunc, change ...func(*Server)) *testServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	settings := serverSettings()
	s := &testServer{address: l.Addr().String(), failed: make(chan error, 100), panics: make(chan *PanicError, 100), faults: make(chan http1.Error, 1000)}
	s.Server = &Server{
		Name: "test",
		Limiter: &ConnLimiter{
			Max: 1000, MaxPerAddress: 1000, Refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "refused"}, []string{"limit"}),
		},
		TLS:     mtls.NewListener(func() *tls.Config { return settings }, nil),
		Handler: handler, HandlerBoundsTime: true,
		Limits: config.Limits{
			HeaderBytes: 32 << 10, HandshakeTimeout: testTimeout, HeaderTimeout: testTimeout, StallTimeout: testTimeout, IdleTimeout: testTimeout,
		},
		RefuseMalformed: func(w http.ResponseWriter, _ *http.Request, fault http1.Error) {
			s.faults <- fault
			w.WriteHeader(fault.Status())
			_, _ = io.WriteString(w, "refused")
		},
		HandshakeFailed: func(_ net.Addr, err error) { s.failed <- err },
		Panicked:        func(_ net.Addr, p *PanicError) { s.panics <- p },
		ErrorLog:        log.New(io.Discard, "", 0),
		LowMemory:       func() bool { return false },
	}
	for _, f := range change {
		f(s.Server)
	}
	s.Listen(l)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		if s.state.Load() == serving {
			_ = s.Shutdown(expired(), 0)
		}
		if err := <-ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return s
}

// quick shortens the intervals of parking and of the watch.
func quick(s *testServer) *testServer {
	s.parkAfter, s.patience = 2*time.Millisecond, 2*time.Millisecond
	return s
}

func plain(s *Server) { s.TLS = nil }

// dial opens a connection for HTTP/1.1.
func (s *testServer) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	if s.TLS != nil {
		c = tls.Client(c, &tls.Config{ServerName: "gate.test", InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	t.Cleanup(func() { _ = socket(c).Close() })
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	return c
}

// socket returns the connection below TLS.
func socket(c net.Conn) net.Conn {
	if secure, ok := c.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return c
}

func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// ask sends text on a connection of its own and returns all received bytes.
func (s *testServer) ask(t testing.TB, text string) string {
	t.Helper()
	c := s.dial(t)
	defer func() { _ = c.Close() }()
	send(t, c, text)
	all, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("ReadAll after %q = %q, %v", text, all, err)
	}
	return string(all)
}

// next reads a response with status 200 and this body. It reports whether the response is the last of the
// connection.
func next(t testing.TB, in *bufio.Reader, want string) (last bool) {
	t.Helper()
	a, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("ReadResponse = %v, want the body %.40q", err, want)
	}
	defer func() { _ = a.Body.Close() }()
	if body, err := io.ReadAll(a.Body); err != nil || a.StatusCode != http.StatusOK || string(body) != want {
		t.Fatalf("got %s %.40q of %d bytes, %v, want %.40q of %d", a.Status, body, len(body), err, want, len(want))
	}
	return a.Close
}

// open returns the number of open connections.
func (s *testServer) open() int { return s.Limiter.Count() }

// idle returns the number of idle connections.
func (s *testServer) idle() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.idle.Load() {
			n++
		}
	}
	return n
}

// expired returns a context that has ended.
func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

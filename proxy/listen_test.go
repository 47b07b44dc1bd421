package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/mtls"
)

// listen serves the handler as the gate does, and returns the address. prepare is called with each
// connection before its handshake.
func (s *harness) listen(t testing.TB, prepare ...func(*net.TCPConn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	settings := mtls.ServerConfig(func() *mtls.Trust { return s.trust }, s.server.TLS(), config.TLS12, config.Respond, mtls.NewHandshakes(prometheus.NewRegistry()))
	server := &httpserver.Server{
		Limiter: &httpserver.ConnLimiter{Max: 10000, MaxPerAddress: 10000},
		TLS:     mtls.NewListener(func() *tls.Config { return settings }, nil),
		Limits: config.Limits{
			HeaderBytes: 32 << 10, HandshakeTimeout: time.Minute, HeaderTimeout: time.Minute, StallTimeout: s.cfg.Listener.Limits.StallTimeout, IdleTimeout: time.Minute,
		},
		Handler: s.proxy, HandlerBoundsTime: true, RefuseMalformed: s.proxy.RefuseMalformed,
		HandshakeFailed: func(net.Addr, error) {}, Panicked: func(net.Addr, *httpserver.PanicError) {},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo), LowMemory: func() bool { return false },
	}
	server.Listen(preparing{listener, prepare})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx, 0)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// A preparing listener calls functions with each connection.
type preparing struct {
	net.Listener
	prepare []func(*net.TCPConn)
}

func (l preparing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	for _, prepare := range l.prepare {
		if err == nil {
			prepare(c.(*net.TCPConn))
		}
	}
	return c, err
}

// A client that reads nothing has one stall timeout for a header that is longer than the buffer of the
// server, even before any body is written.
func TestLongHeaderOfAClientThatTakesNothing(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	upstream := serveUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", long) }), nil)
	said := &gatetest.Log{}
	s := newHarness(t, "http://"+upstream, said, func(cfg *config.Config) { cfg.Listener.Limits.StallTimeout = 100 * time.Millisecond })
	address := s.listen(t, func(c *net.TCPConn) { _ = c.SetWriteBuffer(4 << 10) })

	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		_ = raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
		return err
	}}
	raw, err := small.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	wants := s.clientConfig("http/1.1")
	wants.ServerName = "api.example.test"
	client := tls.Client(raw, wants)
	if _, err := io.WriteString(client, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+s.token+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line := said.Wait(t, `"msg":"request"`); !strings.Contains(line, `"status":200`) {
		t.Errorf("log line = %s", line)
	}
}

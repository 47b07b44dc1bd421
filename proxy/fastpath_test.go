package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/httpserver/fastpath"
	"github.com/tallygate/tallygate/mtls"
)

// listenFastPath serves the handler by package fastpath, as the gate does for HTTP/1.1, and returns the
// address. A request that needs net/http closes its connection. prepare is called with each connection
// before its handshake.
func (s *harness) listenFastPath(t testing.TB, prepare func(*net.TCPConn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &fastpath.Server{Handler: s.proxy, ConnContext: mtls.ConnContext, Quiet: time.Minute, Patience: time.Minute, Panicked: func(net.Addr, any) {}}
	settings := mtls.ServerConfig(func() *mtls.Trust { return s.trust }, s.server.TLS(), config.TLS12, config.Respond, mtls.NewHandshakes(prometheus.NewRegistry()))
	var served sync.WaitGroup
	served.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			prepare(raw.(*net.TCPConn))
			served.Go(func() {
				c := tls.Server(raw, settings)
				var first [1]byte
				if _, err := io.ReadFull(c, first[:]); err == nil {
					_, _, _ = l.Serve(c, first[:])
				}
				_ = raw.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.Abort()
		served.Wait()
	})
	return listener.Addr().String()
}

// A client that reads nothing has one stall timeout for a header that is longer than the buffer of the
// fast path, even before any body is written.
func TestLongHeaderOfAClientThatTakesNothing(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	upstream := serveUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", long) }), nil)
	said := &gatetest.Log{}
	s := newHarness(t, "http://"+upstream, said, func(cfg *config.Config) { cfg.Listener.Limits.StallTimeout = 100 * time.Millisecond })
	address := s.listenFastPath(t, func(c *net.TCPConn) { _ = c.SetWriteBuffer(4 << 10) })

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

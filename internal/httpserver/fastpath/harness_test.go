package fastpath

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var settings = &tls.Config{
	Certificates: []tls.Certificate{testpki.SelfSigned("gate", testpki.DNS("gate.test")).TLS()},
	NextProtos:   []string{"http/1.1"}, MinVersion: tls.VersionTLS12,
}

// A testServer is a real server on loopback: the fast path, if it is enabled, and net/http for the rest.
type testServer struct {
	fast   *Server
	server *http.Server
	at     net.Listener
	others channelListener
	left   chan Outcome // what became of connections on the fast path
	wait   sync.WaitGroup
	panics chan any
}

// A channelListener accepts the connections that are sent to conns.
type channelListener struct {
	net.Listener
	conns chan net.Conn
	over  chan struct{}
}

func (h *channelListener) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

func (h *channelListener) Close() error { return nil }

// A readConn is a connection from which read has been read already.
type readConn struct {
	*tls.Conn
	read []byte
}

func (b *readConn) Read(p []byte) (int, error) {
	if len(b.read) > 0 {
		n := copy(p, b.read)
		b.read = b.read[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// newTestServer returns a testServer with handler. Without the fast path, net/http serves all requests.
func newTestServer(t testing.TB, handler http.HandlerFunc, fastPath bool) *testServer {
	t.Helper()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &testServer{at: at, left: make(chan Outcome, 1000), panics: make(chan any, 1), others: channelListener{at, make(chan net.Conn), make(chan struct{})}}
	r.server = &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	r.fast = &Server{
		Handler: handler, Quiet: gatetest.Patience, Patience: 20 * time.Millisecond, Panicked: func(_ net.Addr, v any) { r.panics <- v },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) },
	}
	r.wait.Go(func() { _ = r.server.Serve(&r.others) })
	r.wait.Go(func() {
		for {
			raw, err := at.Accept()
			if err != nil {
				return
			}
			r.wait.Go(func() { r.serve(tls.Server(raw, settings), fastPath) })
		}
	})
	t.Cleanup(func() {
		_ = at.Close()
		r.fast.Abort()
		close(r.others.over)
		_ = r.server.Close()
		r.wait.Wait()
	})
	return r
}

type key struct{}

func (r *testServer) serve(c *tls.Conn, fastPath bool) {
	if err := c.Handshake(); err != nil {
		_ = c.Close()
		return
	}
	var unserved []byte
	if fastPath {
		var first [1]byte
		if _, err := io.ReadFull(c, first[:]); err != nil {
			_ = c.Close()
			return
		}
		var o Outcome
		o, unserved, _ = r.fast.Serve(c, first[:])
		r.left <- o
		if o == Over {
			return
		}
	}
	select {
	case r.others.conns <- &readConn{c, unserved}:
	case <-r.others.over:
		_ = c.Close()
	}
}

// dial opens a connection to it.
func (r *testServer) dial(t testing.TB) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", r.at.Addr().String(), &tls.Config{ServerName: "gate.test", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.NetConn().Close() })
	_ = c.SetDeadline(time.Now().Add(gatetest.Patience))
	return c
}

// send writes text in one piece.
func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// ask sends text on a connection of its own and returns all that comes until its end.
func (r *testServer) ask(t testing.TB, text string) string {
	t.Helper()
	c := r.dial(t)
	defer func() { _ = c.Close() }()
	send(t, c, text)
	all, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%q is answered %q, %v", text, all, err)
	}
	return string(all)
}

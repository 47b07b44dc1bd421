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

	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

var settings = &tls.Config{
	Certificates: []tls.Certificate{testpki.SelfSigned("gate", testpki.DNS("gate.test")).TLS()},
	NextProtos:   []string{"http/1.1"}, MinVersion: tls.VersionTLS12,
}

// A road is a real server: the fast path, unless it is closed to traffic, and net/http for the rest.
type road struct {
	fast   *Server
	server *http.Server
	at     net.Listener
	others handed
	left   chan Outcome // what became of connections on the fast path
	wait   sync.WaitGroup
	panics chan any
}

// handed is a listener whose connections are handed to it.
type handed struct {
	net.Listener
	conns chan net.Conn
	over  chan struct{}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error { return nil }

// A begun is a connection of which something has been read.
type begun struct {
	*tls.Conn
	read []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.read) > 0 {
		n := copy(p, b.read)
		b.read = b.read[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// open returns a road whose answers handler makes. Without the fast path all goes to net/http.
func open(t testing.TB, handler http.HandlerFunc, withServer bool) *road {
	t.Helper()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{at: at, left: make(chan Outcome, 1000), panics: make(chan any, 1), others: handed{at, make(chan net.Conn), make(chan struct{})}}
	r.server = &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	r.fast = &Server{
		Handler: handler, Quiet: patience, Patience: 20 * time.Millisecond, Panicked: func(_ net.Addr, v any) { r.panics <- v },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) },
	}
	r.wait.Go(func() { _ = r.server.Serve(&r.others) })
	r.wait.Go(func() {
		for {
			raw, err := at.Accept()
			if err != nil {
				return
			}
			r.wait.Go(func() { r.serve(tls.Server(raw, settings), withServer) })
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

func (r *road) serve(c *tls.Conn, withServer bool) {
	if err := c.Handshake(); err != nil {
		_ = c.Close()
		return
	}
	var unserved []byte
	if withServer {
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
	case r.others.conns <- &begun{c, unserved}:
	case <-r.others.over:
		_ = c.Close()
	}
}

// dial opens a connection to it.
func (r *road) dial(t testing.TB) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", r.at.Addr().String(), &tls.Config{ServerName: "gate.test", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.NetConn().Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
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
func (r *road) ask(t testing.TB, text string) string {
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

package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// ShutdownGrace is how much longer a running handshake may take after the listener closes.
const ShutdownGrace = 500 * time.Millisecond

// A HandshakeListener is a listener whose connections have completed their TLS handshake within a
// timeout. If net/http did the handshake, net/http would bound it by the timeout for a header, and
// would keep the stack that the handshake needed for the life of the connection.
type HandshakeListener struct {
	net.Listener
	settings *tls.Config
	timeout  time.Duration
	failed   func(remote net.Addr, fault error)

	handshaking atomic.Int64
	ready       chan net.Conn // connections over HTTP/1.1, and connections that net/http must refuse
	ready2      chan net.Conn // connections over HTTP/2
	faults      chan error
	closing     chan struct{}   // closed when the listener accepts no more connections
	over        context.Context // done when Accept delivers no more connections
	close       func() error
	parked      *parkedConns
}

// newHandshakeListener returns a listener on l. The new listener owns l and parked: its Close also
// closes l and parked.
func newHandshakeListener(l net.Listener, settings *tls.Config, timeout time.Duration, failed func(net.Addr, error), parked *parkedConns) *HandshakeListener {
	over, end := context.WithCancel(context.Background())
	g := &HandshakeListener{
		Listener: l, settings: settings, timeout: timeout, failed: failed,
		ready: make(chan net.Conn), ready2: make(chan net.Conn), faults: make(chan error), closing: make(chan struct{}), over: over, parked: parked,
	}
	parked.handOff = func(conn net.Conn) { g.deliver(g.ready, conn) }
	g.close = sync.OnceValue(func() error {
		close(g.closing)
		go g.awaitHandshakes(end)
		return l.Close()
	})
	go g.acceptLoop()
	return g
}

// Accept returns the next connection that does not use HTTP/2.
func (g *HandshakeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-g.ready:
		return conn, nil
	case err := <-g.faults:
		return nil, err
	case <-g.over.Done():
		return nil, net.ErrClosed
	}
}

// http2 returns a listener for the connections that use HTTP/2. Closing g also ends this listener.
func (g *HandshakeListener) http2() net.Listener { return http2Listener{g} }

type http2Listener struct{ *HandshakeListener }

// Accept returns the next connection that uses HTTP/2.
func (l http2Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready2:
		return conn, nil
	case <-l.over.Done():
		return nil, net.ErrClosed
	}
}

// Close stops accepting connections. Accept still returns connections whose handshake is already
// running.
func (g *HandshakeListener) Close() error { return g.close() }

// awaitHandshakes waits until no handshake runs and no parked connection is on its way to net/http, but
// at most for ShutdownGrace.
func (g *HandshakeListener) awaitHandshakes(end context.CancelFunc) {
	defer g.parked.close()
	defer end()
	for until := time.Now().Add(ShutdownGrace); (g.handshaking.Load() > 0 || g.parked.count() > 0) && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
}

// acceptLoop accepts connections until the listener is closed. It passes errors of the listener to
// Accept. After a temporary error, net/http calls Accept again.
func (g *HandshakeListener) acceptLoop() {
	for {
		conn, err := g.Listener.Accept()
		if err == nil {
			g.handshaking.Add(1)
			go g.handshake(conn)
			continue
		}
		if closed(g.closing) { // a closed listener is not an error: Accept still delivers connections after running handshakes
			return
		}
		select {
		case g.faults <- err:
		case <-g.closing:
			return
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (g *HandshakeListener) handshake(raw net.Conn) {
	defer g.handshaking.Add(-1)
	defer g.rescue(raw)
	defer context.AfterFunc(g.over, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	bounded := &handshakeConn{Conn: raw, left: maxHandshakeBytes}
	conn := tls.Server(bounded, g.settings)
	_ = raw.SetDeadline(time.Now().Add(g.timeout))
	if err := conn.Handshake(); err != nil {
		g.failed(raw.RemoteAddr(), err)
		rejectPlaintextHTTP(err)
		_ = raw.Close()
		return
	}
	bounded.handshakeDone()
	_ = raw.SetDeadline(time.Time{})
	switch conn.ConnectionState().NegotiatedProtocol {
	case "", "http/1.1":
		g.parked.add(conn)
	case "h2": // net/http serves HTTP/2 only on a *tls.Conn
		g.deliver(g.ready2, conn)
	default: // a connection for an ACME challenge, on which no HTTP follows; net/http closes it
		g.deliver(g.ready, conn)
	}
}

// deliver passes conn to the Accept method that reads from ready.
func (g *HandshakeListener) deliver(ready chan<- net.Conn, conn net.Conn) {
	select {
	case ready <- conn:
	case <-g.over.Done():
		_ = conn.Close()
	}
}

// rescue closes a connection whose handshake panicked. As in net/http, other connections are not
// affected.
func (g *HandshakeListener) rescue(raw net.Conn) {
	if v := recover(); v != nil {
		_ = raw.Close()
		g.failed(raw.RemoteAddr(), NewPanicError(v))
	}
}

// A PanicError is a panic in our code or in crypto/tls that ended a connection.
type PanicError struct {
	error
	Stack string
}

// NewPanicError returns an error for the recovered value v, with the current stack. The text of v may
// quote data of the peer, so the error keeps the text only if v is a runtime error.
func NewPanicError(v any) *PanicError {
	cause := errors.New("not a runtime error")
	if fault, ok := v.(runtime.Error); ok {
		cause = fault
	}
	return &PanicError{cause, string(debug.Stack())}
}

// rejectPlaintextHTTP answers a client that speaks HTTP without TLS, as net/http does. Such a
// client cannot read a TLS alert.
func rejectPlaintextHTTP(err error) {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return
	}
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
}

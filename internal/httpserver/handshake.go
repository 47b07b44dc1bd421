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

// ShutdownGrace is how long those that shake hands when the listener is closed have to finish.
const ShutdownGrace = 500 * time.Millisecond

// A HandshakeListener is a listener whose connections have done their TLS handshake, each within the
// timeout. net/http would bound it by the time for a header, and keep for the life of a
// connection the stack that its handshake needed.
type HandshakeListener struct {
	net.Listener
	settings *tls.Config
	timeout  time.Duration
	failed   func(remote net.Addr, fault error)

	handshaking atomic.Int64
	ready       chan net.Conn // over HTTP/1.1, or over what net/http is to refuse
	ready2      chan net.Conn // over HTTP/2
	faults      chan error
	closing     chan struct{}   // no more are accepted
	over        context.Context // nor handed out
	close       func() error
	parked      *parkedConns
}

// newHandshakeListener returns a listener on l, which it owns, as it does the lobby. Close ends it.
func newHandshakeListener(l net.Listener, settings *tls.Config, timeout time.Duration, failed func(net.Addr, error), lobby *parkedConns) *HandshakeListener {
	over, end := context.WithCancel(context.Background())
	g := &HandshakeListener{
		Listener: l, settings: settings, timeout: timeout, failed: failed,
		ready: make(chan net.Conn), ready2: make(chan net.Conn), faults: make(chan error), closing: make(chan struct{}), over: over, parked: lobby,
	}
	lobby.handOff = func(conn net.Conn) { g.deliver(g.ready, conn) }
	g.close = sync.OnceValue(func() error {
		close(g.closing)
		go g.awaitHandshakes(end)
		return l.Close()
	})
	go g.acceptLoop()
	return g
}

// Accept returns the next connection that is ready and does not speak HTTP/2.
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

// http2 returns a listener for the connections that speak HTTP/2. It ends with g.
func (g *HandshakeListener) http2() net.Listener { return http2Listener{g} }

type http2Listener struct{ *HandshakeListener }

// Accept returns the next connection that is ready and speaks HTTP/2.
func (l http2Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready2:
		return conn, nil
	case <-l.over.Done():
		return nil, net.ErrClosed
	}
}

// Close takes no more connections. Accept still returns those that are on the way.
func (g *HandshakeListener) Close() error { return g.close() }

// awaitHandshakes waits for those who shake hands, and for requests that are on their way to the
// lobby.
func (g *HandshakeListener) awaitHandshakes(end context.CancelFunc) {
	defer g.parked.close()
	defer end()
	for until := time.Now().Add(ShutdownGrace); (g.handshaking.Load() > 0 || g.parked.count() > 0) && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
}

// acceptLoop accepts connections until the listener is closed. A fault waits for Accept, which
// net/http calls again after a while where the fault may pass.
func (g *HandshakeListener) acceptLoop() {
	for {
		conn, err := g.Listener.Accept()
		if err == nil {
			g.handshaking.Add(1)
			go g.handshake(conn)
			continue
		}
		if closed(g.closing) { // no fault: those who are shaking hands are waited for
			return
		}
		select {
		case g.faults <- err:
		case <-g.closing:
			return
		}
	}
}

// closed reports whether c has been closed.
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
	case "h2": // for which net/http must have this very type
		g.deliver(g.ready2, conn)
	default: // ACME's challenges, which speak no HTTP: net/http ends them
		g.deliver(g.ready, conn)
	}
}

// deliver lets the Accept that reads from ready return conn.
func (g *HandshakeListener) deliver(ready chan<- net.Conn, conn net.Conn) {
	select {
	case ready <- conn:
	case <-g.over.Done():
		_ = conn.Close()
	}
}

// rescue ends a connection whose handshake panicked, and nothing else, as net/http does.
func (g *HandshakeListener) rescue(raw net.Conn) {
	if v := recover(); v != nil {
		_ = raw.Close()
		g.failed(raw.RemoteAddr(), NewPanicError(v))
	}
}

// PanicError is the error of a connection that met a bug of ours, or of crypto/tls.
type PanicError struct {
	error
	Stack string
}

// NewPanicError returns what is told of a panic with v, on whose stack it is called. What v says
// may quote the peer, so it is told only when it is the runtime's.
func NewPanicError(v any) *PanicError {
	cause := errors.New("not a runtime error")
	if fault, ok := v.(runtime.Error); ok {
		cause = fault
	}
	return &PanicError{cause, string(debug.Stack())}
}

// rejectPlaintextHTTP tells a client that speaks HTTP in clear text so, as net/http does: it would
// make nothing of a TLS alert.
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

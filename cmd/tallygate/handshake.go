package main

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

// lastCall is how long those that shake hands when the listener is closed have to finish.
const lastCall = 500 * time.Millisecond

// A greeter is a listener whose connections have done their TLS handshake, each within the
// timeout. net/http would bound it by the time for a header, and keep for the life of a
// connection the stack that its handshake needed.
type greeter struct {
	net.Listener
	settings *tls.Config
	timeout  time.Duration
	failed   func(remote net.Addr, fault error)

	shaking atomic.Int64
	ready   chan net.Conn // over HTTP/1.1, or over what net/http is to refuse
	ready2  chan net.Conn // over HTTP/2
	faults  chan error
	closing chan struct{}   // no more are accepted
	over    context.Context // nor handed out
	close   func() error
	lobby   *lobby
}

// newGreeter returns a listener on l, which it owns, as it does the lobby. Close ends it.
func newGreeter(l net.Listener, settings *tls.Config, timeout time.Duration, failed func(net.Addr, error), lobby *lobby) *greeter {
	over, end := context.WithCancel(context.Background())
	g := &greeter{
		Listener: l, settings: settings, timeout: timeout, failed: failed,
		ready: make(chan net.Conn), ready2: make(chan net.Conn), faults: make(chan error), closing: make(chan struct{}), over: over, lobby: lobby,
	}
	lobby.back = func(conn net.Conn) { g.handOut(g.ready, conn) }
	g.close = sync.OnceValue(func() error {
		close(g.closing)
		go g.lastCall(end)
		return l.Close()
	})
	go g.greet()
	return g
}

// Accept returns the next connection that is ready and does not speak HTTP/2.
func (g *greeter) Accept() (net.Conn, error) {
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
func (g *greeter) http2() net.Listener { return http2Listener{g} }

type http2Listener struct{ *greeter }

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
func (g *greeter) Close() error { return g.close() }

// lastCall waits for those who shake hands, and for requests that are on their way to the
// lobby.
func (g *greeter) lastCall(end context.CancelFunc) {
	defer g.lobby.close()
	defer end()
	for until := time.Now().Add(lastCall); (g.shaking.Load() > 0 || g.lobby.held() > 0) && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
}

// greet accepts connections until the listener is closed. A fault waits for Accept, which
// net/http calls again after a while where the fault may pass.
func (g *greeter) greet() {
	for {
		conn, err := g.Listener.Accept()
		if err == nil {
			g.shaking.Add(1)
			go g.shake(conn)
			continue
		}
		if isClosed(g.closing) { // no fault: those who are shaking hands are waited for
			return
		}
		select {
		case g.faults <- err:
		case <-g.closing:
			return
		}
	}
}

func (g *greeter) shake(raw net.Conn) {
	defer g.shaking.Add(-1)
	defer g.rescue(raw)
	defer context.AfterFunc(g.over, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	bounded := &flight{Conn: raw, left: mostFlight}
	conn := tls.Server(bounded, g.settings)
	_ = raw.SetDeadline(time.Now().Add(g.timeout))
	if err := conn.Handshake(); err != nil {
		g.failed(raw.RemoteAddr(), err)
		turnBack(err)
		_ = raw.Close()
		return
	}
	bounded.land()
	_ = raw.SetDeadline(time.Time{})
	switch conn.ConnectionState().NegotiatedProtocol {
	case "", "http/1.1":
		g.lobby.welcome(conn)
	case "h2": // for which net/http must have this very type
		g.handOut(g.ready2, conn)
	default: // ACME's challenges, which speak no HTTP: net/http ends them
		g.handOut(g.ready, conn)
	}
}

// handOut lets the Accept that reads from ready return conn.
func (g *greeter) handOut(ready chan<- net.Conn, conn net.Conn) {
	select {
	case ready <- conn:
	case <-g.over.Done():
		_ = conn.Close()
	}
}

// rescue ends a connection whose handshake panicked, and nothing else, as net/http does.
func (g *greeter) rescue(raw net.Conn) {
	if v := recover(); v != nil {
		_ = raw.Close()
		g.failed(raw.RemoteAddr(), newPanicked(v))
	}
}

// panicked is the error of a connection that met a bug of ours, or of crypto/tls.
type panicked struct {
	error
	stack string
}

// newPanicked returns what is told of a panic with v, on whose stack it is called. What v says
// may quote the peer, so it is told only when it is the runtime's.
func newPanicked(v any) *panicked {
	cause := errors.New("not a runtime error")
	if fault, ok := v.(runtime.Error); ok {
		cause = fault
	}
	return &panicked{cause, string(debug.Stack())}
}

// turnBack tells a client that speaks HTTP in clear text so, as net/http does: it would
// make nothing of a TLS alert.
func turnBack(err error) {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return
	}
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
}

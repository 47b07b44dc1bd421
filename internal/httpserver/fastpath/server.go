// Package fastpath serves plain HTTP/1.1 requests: small requests that arrive in one piece and use no
// special feature of HTTP. The goroutine that reads a request also runs the handler, and net/http's
// parser reads the header. All other requests go to net/http unchanged. The fast path exists because an
// http.Server does more for each request: it starts a second goroutine that watches the client, sets
// four deadlines and prepares for features that plain requests do not use. Together these steps are a
// third of the cost of a small request.
package fastpath

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Server serves connections. Its exported fields must be set before the first use and not changed
// later. It is safe for concurrent use.
type Server struct {
	// Handler answers requests. A write deadline that has not passed stays in force for the next
	// answer, so a handler that sets write deadlines must set one for each answer.
	Handler http.Handler
	// ConnContext returns the base context of a connection's requests, as in http.Server.
	ConnContext func(context.Context, net.Conn) context.Context
	// Quiet is how long a connection may be idle. The Server does not renew the deadline for each
	// request, so a connection may count as idle after half of Quiet already.
	Quiet time.Duration
	// Patience is how long a handler may take before the Server watches whether the client leaves.
	Patience time.Duration
	// Panicked is called for each panic, except for a Handler's panic with http.ErrAbortHandler.
	// Panicked runs while the stack of the panic can still be read. The Server has then closed the
	// connection to remote, and continues to serve all other connections.
	Panicked func(remote net.Addr, v any)

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed atomic.Bool
}

// An Outcome says why Serve returned.
type Outcome uint8

const (
	// Over means that the connection is closed.
	Over Outcome = iota
	// Idle means that no request came for the time in Quiet.
	Idle
	// Other means that the next request is for net/http.
	Other
)

// Serve serves plain requests on c, an HTTP/1.1 connection after its TLS handshake, until the
// connection is closed, is idle, or has a request for net/http. early holds bytes that the caller has
// read from c already. With Idle, rests is the end of the last response. With Other, unserved holds the
// bytes that net/http must read before it reads from c.
func (l *Server) Serve(c *tls.Conn, early []byte) (o Outcome, unserved []byte, rests time.Time) {
	defer func() {
		if v := recover(); v != nil { // a panic closes only this connection
			_ = c.Close()
			l.Panicked(c.RemoteAddr(), v)
			o = Over
		}
	}()
	s := newConn(l, c, early)
	l.enter(s)
	defer l.leave(s)
	defer s.release()
	for {
		switch err := s.await(); {
		case err == nil:
		case !l.closed.Load() && errors.Is(err, os.ErrDeadlineExceeded) && s.in.Buffered() == 0:
			s.settle()
			return Idle, nil, s.rests
		case !l.closed.Load() && errors.Is(err, os.ErrDeadlineExceeded): // an incomplete empty line, which goes to net/http
		default:
			_ = c.Close()
			return Over, nil, time.Time{}
		}
		r, received := s.next()
		if r == nil {
			s.settle()
			return Other, received, time.Time{}
		}
		if !s.serve(r) {
			_ = c.Close()
			return Over, nil, time.Time{}
		}
	}
}

// Held returns the number of connections that are served or wait for a request.
func (l *Server) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// Close ends idle connections at once, and each other connection after its answer.
func (l *Server) Close() {
	l.closed.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.conns {
		if s.waiting.Load() {
			_ = s.tls.SetReadDeadline(past)
		}
	}
}

// Abort closes all connections at once.
func (l *Server) Abort() {
	l.closed.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.conns {
		_ = s.tls.NetConn().Close()
	}
}

// Wait returns nil once no connection is left, or ctx's error if ctx ends first.
func (l *Server) Wait(ctx context.Context) error {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for l.Held() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
	return nil
}

func (l *Server) enter(s *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = make(map[*conn]struct{})
	}
	l.conns[s] = struct{}{}
}

func (l *Server) leave(s *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, s)
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// buffers are lent to a connection while a Server serves the connection. They have the sizes of the
// buffers in net/http.
type buffers struct {
	in    *bufio.Reader
	out   *bufio.Writer
	small [beginning]byte
}

var spare = sync.Pool{New: func() any {
	return &buffers{in: bufio.NewReaderSize(nil, 4<<10), out: bufio.NewWriterSize(nil, 4<<10)}
}}

// Package fastpath serves the requests of HTTP/1.1 that are plain: those that begin and end in
// one piece, as small ones do, and ask for nothing but an answer. It does so on the goroutine
// that reads them, with net/http's parser, and leaves the others to net/http as they came.
// An http.Server has a second goroutine watch the client while each request is answered, sets
// four deadlines for it, and makes what other requests need; together that is a third of what
// it costs to serve a small one.
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

// A Server serves connections. Its exported fields must be set before its first use, and not
// change. It is safe for concurrent use.
type Server struct {
	// Handler answers requests. If it sets a write deadline it must do so for each answer, for
	// one that has not passed holds for the next.
	Handler http.Handler
	// ConnContext is as that of http.Server: what it returns is known to each request.
	ConnContext func(context.Context, net.Conn) context.Context
	// Quiet is how long a connection may be without a request. It may be half of it, too, for
	// it is not counted anew for each request.
	Quiet time.Duration
	// Patience is how long an answer may take until it is watched whether the client leaves.
	Patience time.Duration
	// Panicked is told of each panic but that of Handler with http.ErrAbortHandler, while the
	// stack is still there. It has cost its connection, to this address, and nothing else.
	Panicked func(remote net.Addr, v any)

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed atomic.Bool
}

// An Outcome is what became of a connection.
type Outcome uint8

const (
	// Over: the connection is closed.
	Over Outcome = iota
	// Idle: nothing has been asked for as long as Quiet says.
	Idle
	// Other: what comes next is for net/http.
	Other
)

// Serve serves plain requests on c, an HTTP/1.1 connection after its TLS handshake, until the
// connection is closed, is idle, or has a request for net/http. early holds bytes that have been
// read from c already. With Idle, rests is the end of the last response; with Other, unserved
// holds the bytes that net/http must see first.
func (l *Server) Serve(c *tls.Conn, early []byte) (o Outcome, unserved []byte, rests time.Time) {
	defer func() {
		if v := recover(); v != nil { // a bug, which is to cost this connection and no more
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
		case !l.closed.Load() && errors.Is(err, os.ErrDeadlineExceeded): // half of an empty line
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

// Held returns how many connections are being served or wait for a request.
func (l *Server) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// Close ends the connections that wait for a request, and the others with their answers.
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

// Abort ends all connections.
func (l *Server) Abort() {
	l.closed.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.conns {
		_ = s.tls.NetConn().Close()
	}
}

// Wait returns nil when no connection is left, or ctx's error when that ends before.
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

// buffers are lent to a connection while it is here: as large as those of net/http.
type buffers struct {
	in    *bufio.Reader
	out   *bufio.Writer
	small [beginning]byte
}

var spare = sync.Pool{New: func() any {
	return &buffers{in: bufio.NewReaderSize(nil, 4<<10), out: bufio.NewWriterSize(nil, 4<<10)}
}}

// Package httpserver serves the connections of one listener. It limits connections, reads the PROXY
// protocol, performs TLS handshakes, and serves HTTP/1.1 itself. Connections that negotiate HTTP/2 go to
// golang.org/x/net/http2.
package httpserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/mtls"
)

// ShutdownGrace is how long, after the listener closes, a started handshake or a sent request may take to
// reach the handler. It is for the argument grace of [Server.Shutdown].
const ShutdownGrace = 500 * time.Millisecond

// A Server serves one listener. Its exported fields must be set before Listen, and not changed later.
type Server struct {
	Name          string
	Address       string
	Limiter       *ConnLimiter
	TLS           *mtls.Listener               // nil: no TLS
	ProxyProtocol func() *config.ProxyProtocol // returns the present settings; nil: no PROXY protocol
	Limits        config.Limits
	Handler       http.Handler // answers requests; over HTTP/1.1 its ResponseWriter is an http1.ResponseWriter
	// HandlerBoundsTime says that bodies may take any time, and that Handler sets the read deadlines. Each write must
	// then end within Limits.StallTimeout, unless Handler sets another deadline. Otherwise a request must arrive
	// within Limits.HeaderTimeout, and its response must be sent within Limits.StallTimeout.
	HandlerBoundsTime bool
	// RefuseMalformed answers a malformed HTTP/1.1 request. r has only the addresses and the TLS state of the
	// connection, which closes after the response.
	RefuseMalformed func(w http.ResponseWriter, r *http.Request, fault http1.Error)
	HandshakeFailed func(remote net.Addr, fault error)   // called for each failed handshake
	Panicked        func(remote net.Addr, p *PanicError) // called for each panic, except with http.ErrAbortHandler
	ErrorLog        *log.Logger                          // for errors of connections
	LowMemory       func() bool                          // reports whether memory is short
	ConnectionIdle  func()                               // called when a connection has become idle and returned its buffers; nil: not called
	Active          *atomic.Int64                        // concurrent requests; nil: Shutdown waits no grace time and returns no error for requests that it cuts off
	// Standard serves all connections with net/http. It is for the listener of operators. If it is set, Handler
	// and the fields after Handler are not used.
	Standard *http.Server

	listener            net.Listener
	http2Server         *http.Server // nil without TLS
	http2Conns          chan net.Conn
	multiplexed         sync.Map // the connections over HTTP/2: net.Conn to *http2Conn
	state               atomic.Int32
	closed              chan struct{} // closed with the state closing
	parkAfter, patience time.Duration

	mu    sync.Mutex
	conns map[*conn]struct{} // the connections that are not over HTTP/2
}

// The states of a Server.
const (
	serving  int32 = iota
	draining       // no new connections are accepted, and each response ends its connection
	closing        // connections without a request are closed
)

// Listen prepares the server to serve on l. The server owns l from then on.
func (s *Server) Listen(l net.Listener) {
	s.Limiter.Listener = l
	s.listener = s.Limiter
	s.conns, s.closed, s.http2Conns = make(map[*conn]struct{}), make(chan struct{}), make(chan net.Conn)
	s.parkAfter, s.patience = min(ParkAfter, s.Limits.IdleTimeout), patience
	if s.ProxyProtocol != nil {
		s.listener = newProxyProtocolListener(s.Limiter, s.ProxyProtocol, s.Limits.HeaderTimeout)
	}
	if s.TLS != nil {
		s.http2Server = s.newHTTP2()
	}
}

// Serve serves until the listener is closed or fails.
func (s *Server) Serve() error {
	accepting, ctx := errgroup.WithContext(context.Background())
	accepting.Go(func() error {
		if s.Standard != nil {
			return s.Standard.Serve(s.listener)
		}
		return s.accept()
	})
	if s.http2Server != nil {
		accepting.Go(func() error { return s.http2Server.Serve(&http2Listener{s.listener, s, ctx.Done()}) })
	}
	if err := accepting.Wait(); err != nil && s.state.Load() == serving {
		return fmt.Errorf("serving %s: %w", s.Name, err)
	}
	return nil
}

// accept accepts connections until the listener is closed or fails. After a temporary error, such as a
// lack of file descriptors, it tries again.
func (s *Server) accept() error {
	var pause time.Duration
	for {
		raw, err := s.listener.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = 0
			s.start(newConn(s, raw))
		case errors.As(err, &temporary) && temporary.Temporary():
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.ErrorLog.Printf("accepting a connection: %v; trying again in %s", err, pause)
			time.Sleep(pause)
		default:
			return err
		}
	}
}

func (s *Server) start(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	if s.TLS != nil {
		go c.handshake()
		return
	}
	go c.wait(time.Now().Add(s.Limits.HeaderTimeout))
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) draining() bool { return s.state.Load() >= draining }

func (s *Server) closing() bool { return s.state.Load() == closing }

// Close stops accepting connections.
func (s *Server) Close() error { return s.listener.Close() }

// Shutdown stops accepting connections, and closes each connection when its requests are done. Before it
// closes idle connections, it waits up to grace, because a client may already have sent a request that the
// server has not read, for example directly after a handshake. If ctx ends first, Shutdown closes all
// connections, and returns an error if it has cut off a request.
func (s *Server) Shutdown(ctx context.Context, grace time.Duration) error {
	s.state.Store(draining)
	_ = s.listener.Close()
	if s.Active != nil {
		soon, cancel := context.WithTimeout(ctx, grace)
		_ = s.Limiter.Wait(soon)
		cancel()
	}
	s.closeIdle()
	var stopping errgroup.Group
	stopping.Go(func() error { return s.Limiter.Wait(ctx) })
	for _, standard := range []*http.Server{s.Standard, s.http2Server} {
		if standard != nil {
			stopping.Go(func() error { return standard.Shutdown(ctx) })
		}
	}
	err := stopping.Wait()
	if err == nil {
		return nil
	}
	// An error does not mean that a request was cut off: connections without any request also let ctx
	// end.
	cut := s.Active != nil && s.Active.Load() > 0
	s.abort()
	if !cut {
		return nil
	}
	return fmt.Errorf("stopping %s: %w", s.Name, err)
}

// EndIdle closes the connections that have carried a request and carry none now. It tells clients with requests
// over HTTP/2 to send the next request on another connection (GOAWAY). The server still accepts connections. A
// draining gate calls EndIdle when its upstreams may end before it.
func (s *Server) EndIdle() {
	if s.http2Server != nil {
		// Shutdown sends GOAWAY on each connection, and then waits for the end of Serve.
		go func() { _ = s.http2Server.Shutdown(context.Background()) }()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if !c.used.Load() { // the first request of a new connection is probably on its way
			continue
		}
		c.endIdle()
	}
}

// closeIdle closes the connections without a request, and lets no further request begin on them.
func (s *Server) closeIdle() {
	s.state.Store(closing)
	close(s.closed)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.idle.Load() {
			_ = c.read.at(past)
		}
	}
}

// abort closes all connections at once.
func (s *Server) abort() {
	for _, standard := range []*http.Server{s.Standard, s.http2Server} {
		if standard != nil {
			_ = standard.Close()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.raw.Close()
	}
}

// NewErrorLog returns a logger for ErrorLog that writes to l with the listener's name.
func NewErrorLog(l *slog.Logger, listener string) *log.Logger {
	return log.New(&errorLog{l, listener}, "", 0)
}

// An errorLog writes messages about connections to the log.
type errorLog struct {
	log      *slog.Logger
	listener string
}

func (e *errorLog) Write(text []byte) (int, error) {
	e.log.Warn("connection", "listener", e.listener, "error", string(bytes.TrimSpace(text)))
	return len(text), nil
}

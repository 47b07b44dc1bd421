// Package httpserver serves the connections of one listener. It limits connections, reads the PROXY
// protocol, performs TLS handshakes, manages idle connections, and passes HTTP/1.1 and HTTP/2 requests
// to a handler.
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
	"github.com/tallygate/tallygate/internal/httpserver/fastpath"
	"github.com/tallygate/tallygate/mtls"
)

// A Server serves one listener. Its fields must be set before Listen, and not changed later.
type Server struct {
	Name             string
	Address          string
	Limiter          *ConnLimiter
	TLS              *mtls.Listener                     // nil: no TLS
	ProxyProtocol    func() *config.ProxyProtocol       // returns the present settings; nil: no PROXY protocol
	HandshakeTimeout time.Duration                      // bounds a TLS handshake
	HandshakeFailed  func(remote net.Addr, fault error) // called for each failed handshake
	RefuseMalformed  MalformedHandler                   // answers malformed HTTP/1.x requests
	Active           *atomic.Int64                      // concurrent requests; nil: cutting off a request is not an error
	Closing          <-chan struct{}                    // closed when the listener accepts no more connections
	Listener         net.Listener                       // set by Listen
	HTTP1            *http.Server                       // serves HTTP/1.1
	HTTP2            *http.Server                       // serves HTTP/2 on the same listener; nil without TLS
	FastPath         *fastpath.Server                   // serves plain HTTP/1.1 requests; nil: HTTP1 serves all requests
}

// NewHTTP1 returns an HTTP/1.1 server that bounds the time for each whole request and response.
func NewHTTP1(limits config.Limits, handler http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		MaxHeaderBytes:    int(limits.HeaderBytes),
		ReadHeaderTimeout: limits.HeaderTimeout,
		ReadTimeout:       limits.HeaderTimeout,
		WriteTimeout:      limits.StallTimeout,
		IdleTimeout:       limits.IdleTimeout,
		ConnContext:       mtls.ConnContext,
		ConnState:         changed,
		// Without this option, net/http answers "OPTIONS *" before the handler sees the request.
		DisableGeneralOptionsHandler: true,
	}
}

// Listen prepares the server to serve on l. The server owns l from then on.
func (s *Server) Listen(l net.Listener) {
	s.Limiter.Listener = l
	if s.TLS != nil {
		// The handshakes are not done by ServeTLS, because ServeTLS would copy the TLS settings, and
		// later changes of the settings would have no effect.
		s.Listener = newHandshakeListener(newProxyProtocolListener(s.Limiter, s.ProxyProtocol, s.HTTP1.ReadHeaderTimeout), s.TLS.Config(), s.HandshakeTimeout, s.HandshakeFailed,
			newParkedConns(s.FastPath, s.HTTP1.ReadHeaderTimeout, s.HTTP1.IdleTimeout, s.RefuseMalformed))
		return
	}
	s.Listener = guardedListener{s.Limiter, s.RefuseMalformed}
}

// Serve serves until the listener is closed or fails.
func (s *Server) Serve() error {
	var serving errgroup.Group
	serving.Go(func() error { return s.HTTP1.Serve(s.Listener) })
	if s.HTTP2 != nil {
		serving.Go(func() error { return s.HTTP2.Serve(s.Listener.(*HandshakeListener).http2()) })
	}
	err := serving.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) && closed(s.Closing) {
		return nil
	}
	return fmt.Errorf("serving %s: %w", s.Name, err)
}

// NewErrorLog returns a logger for [http.Server.ErrorLog] that writes to l with the listener's
// name.
func NewErrorLog(l *slog.Logger, listener string) *log.Logger {
	return log.New(&errorLog{l, listener}, "", 0)
}

// An errorLog writes the messages of net/http about connections to the log.
type errorLog struct {
	log      *slog.Logger
	listener string
}

func (e *errorLog) Write(text []byte) (int, error) {
	e.log.Warn("connection", "listener", e.listener, "error", string(bytes.TrimSpace(text)))
	return len(text), nil
}

// Shutdown stops accepting connections, and closes each connection when its requests are done. First,
// requests that are on their way, for example behind a handshake, get the time grace, because net/http
// drops every request that it reads after http.Server.Shutdown has begun, without a response.
func (s *Server) Shutdown(ctx context.Context, grace time.Duration) error {
	_ = s.Listener.Close()
	for until := time.Now().Add(grace); s.Active != nil && s.Limiter.Count() > 0 && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	err := s.shutdownServers(ctx)
	if s.FastPath != nil {
		err = errors.Join(err, s.FastPath.Wait(ctx))
	}
	if err == nil {
		return nil
	}
	// An error does not mean that a request was cut off: connections without any request also let ctx
	// end.
	cut := s.Active != nil && s.Active.Load() > 0
	_ = s.HTTP1.Close()
	if s.HTTP2 != nil {
		_ = s.HTTP2.Close()
	}
	if s.FastPath != nil {
		s.FastPath.Abort()
	}
	if !cut {
		return nil
	}
	return fmt.Errorf("stopping %s: %w", s.Name, err)
}

// shutdownServers shuts down HTTP1 and HTTP2 at the same time.
func (s *Server) shutdownServers(ctx context.Context) error {
	var over2 error
	var ending sync.WaitGroup
	if s.HTTP2 != nil {
		ending.Go(func() { over2 = s.HTTP2.Shutdown(ctx) })
	}
	over1 := s.HTTP1.Shutdown(ctx)
	ending.Wait()
	return errors.Join(over1, over2)
}

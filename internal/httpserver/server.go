// Package httpserver serves the connections of one listener: connection limits, PROXY protocol, TLS
// handshakes, idle connections, and HTTP/1.1 and HTTP/2 requests up to their handler.
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

// A Server is one listener with its handler.
type Server struct {
	Name             string
	Address          string
	Limiter          *ConnLimiter
	TLS              *mtls.Listener                     // nil: plain HTTP
	ProxyProtocol    func() *config.ProxyProtocol       // who may speak it in front of TLS, at the moment
	HandshakeTimeout time.Duration                      // may take so long
	HandshakeFailed  func(remote net.Addr, fault error) // is told of handshakes
	RefuseMalformed  MalformedHandler                   // of malformed requests over HTTP/1.x
	Active           *atomic.Int64                      // its requests; nil: none that an end would cut
	Closing          <-chan struct{}                    // closed when it is to take no more connections
	Listener         net.Listener                       // on which http serves
	HTTP1            *http.Server                       // HTTP/1.1
	HTTP2            *http.Server                       // HTTP/2, of the same listener; nil without TLS
	FastPath         *fastpath.Server                   // beside http, for what is plain; nil: http serves all
}

// NewHTTP1 returns a server for messages over HTTP/1.1 that are small and come in one
// go.
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
		// Otherwise net/http answers "OPTIONS *" before the handler sees it.
		DisableGeneralOptionsHandler: true,
	}
}

// Listen lets the server serve on l, which it owns.
func (s *Server) Listen(l net.Listener) {
	s.Limiter.Listener = l
	if s.TLS != nil {
		// Not by ServeTLS, which would go by a copy of the settings.
		s.Listener = newHandshakeListener(newProxyProtocolListener(s.Limiter, s.ProxyProtocol, s.HTTP1.ReadHeaderTimeout), s.TLS.Config(), s.HandshakeTimeout, s.HandshakeFailed,
			newParkedConns(s.FastPath, s.HTTP1.ReadHeaderTimeout, s.HTTP1.IdleTimeout, s.RefuseMalformed))
		return
	}
	s.Listener = guardedListener{s.Limiter, s.RefuseMalformed}
}

// Serve serves until the listener is closed or has a fault, over each protocol that it
// speaks.
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

// NewErrorLog returns a logger for [http.Server.ErrorLog] that writes to l, with the listener's
// name.
func NewErrorLog(l *slog.Logger, listener string) *log.Logger {
	return log.New(&errorLog{l, listener}, "", 0)
}

// An errorLog turns what net/http says of its connections into log lines.
type errorLog struct {
	log      *slog.Logger
	listener string
}

func (e *errorLog) Write(text []byte) (int, error) {
	e.log.Warn("connection", "listener", e.listener, "detail", string(bytes.TrimSpace(text)))
	return len(text), nil
}

// Shutdown takes no more connections, and ends those that are there when their requests are
// done. Once it has begun to, net/http drops every request that it reads, without an answer;
// so those that are on their way, behind a handshake above all, have their last call before.
func (s *Server) Shutdown(ctx context.Context, call time.Duration) error {
	_ = s.Listener.Close()
	for until := time.Now().Add(call); s.Active != nil && s.Limiter.Count() > 0 && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	err := s.shutdownServers(ctx)
	if s.FastPath != nil {
		err = errors.Join(err, s.FastPath.Wait(ctx))
	}
	if err == nil {
		return nil
	}
	// It also waits for connections on which nothing was asked yet.
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

// shutdownServers lets both servers end their connections at the same time.
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

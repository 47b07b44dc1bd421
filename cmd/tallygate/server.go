package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/mtls"
)

// drainTimeout bounds how long requests may take to finish after a stop was asked
// for. Kubernetes kills after 30 seconds by default; this leaves it five.
const drainTimeout = 25 * time.Second

// streamTimeout is how much of that streams and tunnels have, which may have no end of
// their own: what only says no length is over by then.
const streamTimeout = 10 * time.Second

// A server is one listener with its handler.
type server struct {
	name        string
	address     string
	connections int
	tls         *mtls.Listener               // nil: plain HTTP
	relays      func() *config.ProxyProtocol // who may speak it in front of TLS, at the moment
	http        *http.Server
}

// addServer adds a server whose requests each go to what handler returns of the state at
// their time. It speaks TLS where the state has settings for its name.
func (g *gate) addServer(name string, address config.Address, handler func(*state) http.Handler) {
	now := g.current.Load()
	limits := now.cfg.Listener.Limits
	var listener *mtls.Listener
	if now.settings[name] != nil {
		var challenge func(*tls.ClientHelloInfo) *tls.Config
		if name == partnersListener {
			challenge = g.acme.Challenge
		}
		listener = mtls.NewListener(func() *tls.Config { return g.current.Load().settings[name] }, challenge)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(listener != nil) // never in clear text
	active := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tallygate_connections_active", Help: "Open connections by listener.",
		ConstLabels: prometheus.Labels{"listener": name},
	})
	g.registry.MustRegister(active)
	// The issuer's and the admin's messages are small and come in one go. Partners'
	// bodies may take any time, as long as they move: the handler sees to that.
	read, write := limits.HeaderTimeout, limits.StallTimeout
	relays := func() *config.ProxyProtocol { return nil }
	if name == partnersListener {
		read, write = 0, 0
		relays = func() *config.ProxyProtocol { return g.current.Load().cfg.Listener.ProxyProtocol }
	}
	g.servers = append(g.servers, &server{
		name:        name,
		address:     string(address),
		connections: limits.Connections,
		tls:         listener,
		relays:      relays,
		http: &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				handler(g.current.Load()).ServeHTTP(w, r)
			}),
			Protocols: &protocols,
			HTTP2: &http.HTTP2Config{
				MaxConcurrentStreams: 128,
				WriteByteTimeout:     limits.StallTimeout,
				SendPingTimeout:      limits.IdleTimeout,
			},
			MaxHeaderBytes: int(limits.HeaderBytes),
			// It bounds the TLS handshake too, which has no setting of its own.
			ReadHeaderTimeout: limits.HeaderTimeout,
			ReadTimeout:       read,
			WriteTimeout:      write,
			IdleTimeout:       limits.IdleTimeout,
			ConnContext:       mtls.ConnContext,
			// Otherwise net/http answers "OPTIONS *" before the handler sees it.
			DisableGeneralOptionsHandler: true,
			ErrorLog:                     log.New(&serverErrors{g.log, name, g.handshakes}, "", 0),
			ConnState: func(_ net.Conn, state http.ConnState) {
				switch state {
				case http.StateNew:
					active.Inc()
				case http.StateClosed, http.StateHijacked:
					active.Dec()
				case http.StateActive, http.StateIdle:
				}
			},
		},
	})
}

// run listens, serves until ctx ends, and then stops: readiness goes first, no new
// connection is taken, what runs may finish within drainTimeout. It returns nil
// after a clean stop. open makes the listeners, by name and configured address.
func (g *gate) run(ctx context.Context, open func(name, address string) (net.Listener, error)) (err error) {
	issuer := g.current.Load().issuer // the first; those after it have its state and its keys
	if issuer != nil {
		if err := issuer.Open(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, issuer.Close()) }()
	}
	if g.acme != nil {
		if err := g.acme.Open(); err != nil {
			return err
		}
	}
	listeners := make([]net.Listener, len(g.servers))
	for i, s := range g.servers {
		l, err := open(s.name, s.address)
		if err != nil {
			for _, opened := range listeners[:i] {
				_ = opened.Close()
			}
			return fmt.Errorf("listening for %s: %w", s.name, err)
		}
		listeners[i] = l
		g.log.InfoContext(ctx, "listening", "listener", s.name, "address", l.Addr().String())
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(background)
	tending, ease := context.WithCancel(background)
	defer ease()
	if g.acme != nil {
		group.Go(func() error {
			g.acme.Run(tending, listeners[g.challenged()].Addr())
			return nil
		})
	}
	if issuer != nil {
		group.Go(func() error { return issuer.Run(background) })
		group.Go(func() error { return g.serveOperator(background) })
	}
	for i, s := range g.servers {
		group.Go(func() error { return s.serve(listeners[i]) })
	}
	group.Go(func() error { return g.follow(background) })
	group.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
			g.log.InfoContext(ctx, "stopping")
		case <-serving.Done(): // a listener broke: the others go too
		}
		close(g.draining)
		ease() // or ACME would open the listeners that now close
		return g.shutdown()
	})
	return group.Wait()
}

// challenged returns the index of the server at which the challenges of ACME arrive: one of
// its own, or the partners', which is the first.
func (g *gate) challenged() int {
	return max(0, slices.IndexFunc(g.servers, func(s *server) bool { return s.name == acmeListener }))
}

func (s *server) serve(l net.Listener) error {
	l = netutil.LimitListener(l, s.connections)
	if s.tls != nil {
		l = mtls.Relayed(l, s.relays, s.http.ReadHeaderTimeout)
		// Not by ServeTLS, which would go by a copy of the settings.
		l = tls.NewListener(l, s.tls.Config())
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", s.name, err)
	}
	return nil
}

// shutdown stops every server, all at once but the admin's, which goes last so that
// probes and a final scrape see the stop. A request that is cut is an error, but for
// streams, which are ended before the time is up.
func (g *gate) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	ending := time.AfterFunc(streamTimeout, g.streams.End)
	defer ending.Stop()
	last := len(g.servers) - 1
	cut := make([]error, len(g.servers))
	var stopping sync.WaitGroup
	for i, s := range g.servers[:last] {
		stopping.Go(func() { cut[i] = s.shutdown(ctx) })
	}
	stopping.Wait()
	tunnels := g.streams.Wait(ctx) // of which net/http knows nothing any more
	if tunnels != nil {
		tunnels = fmt.Errorf("stopping: tunnels were cut after %s", drainTimeout)
	}
	cut[last] = g.servers[last].shutdown(ctx)
	return errors.Join(append(cut, tunnels)...)
}

func (s *server) shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
		return fmt.Errorf("stopping %s: requests were cut after %s", s.name, drainTimeout)
	}
	return nil
}

// eachListener does something to every listener that speaks TLS.
func (g *gate) eachListener(do func(*mtls.Listener)) {
	for _, s := range g.servers {
		if s.tls != nil {
			do(s.tls)
		}
	}
}

// serverErrors turns what net/http says of its connections into log lines. Failed
// handshakes are the internet's noise: counted, and logged at debug only.
type serverErrors struct {
	log        *slog.Logger
	listener   string
	handshakes *mtls.Handshakes
}

func (e *serverErrors) Write(text []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.HasPrefix(text, []byte("http: TLS handshake error")) {
		level = slog.LevelDebug
		e.handshakes.Failed()
	}
	e.log.Log(context.Background(), level, "connection", "listener", e.listener, "detail", string(bytes.TrimSpace(text)))
	return len(text), nil
}

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
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/lane"
	"github.com/tallygate/tallygate/mtls"
)

// A server is one listener with its handler.
type server struct {
	name      string
	address   string
	door      *door
	tls       *mtls.Listener                     // nil: plain HTTP
	relays    func() *config.ProxyProtocol       // who may speak it in front of TLS, at the moment
	handshake time.Duration                      // may take so long
	failed    func(remote net.Addr, fault error) // is told of handshakes
	refuse    refuser                            // of malformed requests over HTTP/1.x
	inHand    *atomic.Int64                      // its requests; nil: none that an end would cut
	leaving   <-chan struct{}                    // closed when it is to take no more connections
	listener  net.Listener                       // on which http serves
	http      *http.Server                       // HTTP/1.1
	http2     *http.Server                       // HTTP/2, of the same listener; nil without TLS
	lane      *lane.Lane                         // beside http, for what is plain; nil: http serves all
}

// adminConnections is enough for probes and scrapers, which are few. Partners and the
// admin's visitors never wait for each other: each listener has its own bound. One address
// has a quarter, so that a neighbour cannot keep the probes out, and have the gate restarted.
const adminConnections = 256

// addServer adds a server whose requests each go to what handler returns of the state at
// their time, and are counted in inHand, if that is not nil. It speaks TLS where the state
// has settings for its name. The partners' has a lane and may stand behind PROXY protocol.
func (g *gate) addServer(name string, address config.Address, inHand *atomic.Int64, handler func(*state) http.Handler) {
	limits := g.current.Load().cfg.Listener.Limits
	s := &server{
		name:      name,
		address:   string(address),
		door:      g.newDoor(name, limits),
		tls:       g.newListener(name),
		relays:    func() *config.ProxyProtocol { return nil },
		handshake: limits.HandshakeTimeout,
		failed:    func(remote net.Addr, fault error) { g.handshakeFailed(name, remote, fault) },
		inHand:    inHand,
		leaving:   g.leaving,
	}
	s.http = newHTTPServer(limits, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if inHand != nil {
			inHand.Add(1)
			defer inHand.Add(-1)
		}
		handler(g.current.Load()).ServeHTTP(w, r)
	}))
	s.refuse = answering(g.malformedAt(name))
	s.http.ErrorLog = log.New(&serverErrors{g.log, name}, "", 0)
	if name == partnersListener {
		// Bodies may take any time, as long as they move: the handler sees to that.
		s.http.ReadTimeout, s.http.WriteTimeout = 0, 0
		s.relays = func() *config.ProxyProtocol { return g.current.Load().cfg.Listener.ProxyProtocol }
		s.lane = &lane.Lane{
			Handler: s.http.Handler, ConnContext: mtls.ConnContext, Quiet: min(quiet, limits.IdleTimeout), Patience: 100 * time.Millisecond,
			Panicked: func(remote net.Addr, v any) { g.tellPanic(name, remote, newPanicked(v)) },
		}
	}
	if s.tls != nil {
		s.http2 = newHTTP2Server(s.http, limits, g.load.short)
	}
	g.servers = append(g.servers, s)
}

// newListener returns the TLS of the listener with this name, nil where it has none.
func (g *gate) newListener(name string) *mtls.Listener {
	if g.current.Load().settings[name] == nil {
		return nil
	}
	var challenge func(*tls.ClientHelloInfo) *tls.Config
	if name == partnersListener {
		challenge = g.acme.Challenge
	}
	return mtls.NewListener(func() *tls.Config { return g.current.Load().settings[name] }, challenge)
}

// newHTTPServer returns a server for messages over HTTP/1.1 that are small and come in one
// go.
func newHTTPServer(limits config.Limits, handler http.Handler) *http.Server {
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

// handshakeFailed counts a failed handshake. Most are noise of the internet and logged at
// debug only; a bug of ours is an error, and a client certificate that cannot be used, which
// its owner learns of nowhere else, a warning.
func (g *gate) handshakeFailed(listener string, remote net.Addr, fault error) {
	g.handshakes.Failed()
	var ours *panicked
	if errors.As(fault, &ours) {
		g.tellPanic(listener, remote, ours)
		return
	}
	if g.tellCertificate(listener, remote, fault) {
		return
	}
	g.log.Debug("handshake failed", "listener", listener, "remote", remote.String(), "detail", access.Truncate(fault.Error()))
}

// tellPanic tells of a bug that has cost a connection.
func (g *gate) tellPanic(listener string, remote net.Addr, p *panicked) {
	g.log.Error("panic", "listener", listener, "remote", remote.String(), "cause", p.Error(), "stack", p.stack)
}

// newDoor returns the door of the listener with this name, which has no listener yet.
func (g *gate) newDoor(name string, limits config.Limits) *door {
	labels := prometheus.Labels{"listener": name}
	d := &door{
		most: limits.Connections, mostEach: limits.ConnectionsPerAddress, crowded: g.load.crowded,
		refused: g.refused.MustCurryWith(labels), log: g.log.With("listener", name), each: make(map[netip.Prefix]int),
	}
	if name == adminListener {
		d.most, d.mostEach, d.crowded = min(d.most, adminConnections), min(d.mostEach, adminConnections/4), nil
	}
	for _, bound := range []string{byTotal, byAddress, byMemory} {
		d.refused.WithLabelValues(bound)
	}
	g.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_connections_active", Help: "Open connections by listener.", ConstLabels: labels,
	}, func() float64 { return float64(d.count()) }))
	return d
}

// run listens, serves until ctx ends, and then stops as finish says. It returns nil after
// a clean stop. open makes the listeners, by name and configured address.
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
	g.fit(descriptors())
	for i, s := range g.servers {
		l, err := open(s.name, s.address)
		if err != nil {
			for _, opened := range g.servers[:i] {
				_ = opened.listener.Close()
			}
			return fmt.Errorf("listening for %s: %w", s.name, err)
		}
		s.listen(l)
		g.log.InfoContext(ctx, "listening", "listener", s.name, "address", l.Addr().String())
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(background)
	tending, ease := context.WithCancel(background)
	defer ease()
	if g.acme != nil {
		group.Go(func() error {
			g.acme.Run(tending, g.servers[g.challenged()].door.Addr())
			return nil
		})
	}
	if issuer != nil {
		group.Go(func() error { return issuer.Run(background) })
		group.Go(func() error { return g.serveOperator(background) })
	}
	for _, s := range g.servers {
		group.Go(s.serve)
	}
	group.Go(func() error { return g.follow(background) })
	group.Go(func() error {
		tidyUp(background)
		return nil
	})
	group.Go(func() error {
		g.sweep(background)
		return nil
	})
	group.Go(func() error {
		defer stop()
		// ACME would open the listeners that are closed then.
		return g.finish(ctx, serving, ease)
	})
	return group.Wait()
}

// challenged returns the index of the server at which the challenges of ACME arrive: one of
// its own, or the partners', which is the first.
func (g *gate) challenged() int {
	return max(0, slices.IndexFunc(g.servers, func(s *server) bool { return s.name == acmeListener }))
}

// listen lets the server serve on l, which it owns.
func (s *server) listen(l net.Listener) {
	s.door.Listener = l
	if s.tls != nil {
		// Not by ServeTLS, which would go by a copy of the settings.
		s.listener = newGreeter(mtls.Relayed(s.door, s.relays, s.http.ReadHeaderTimeout), s.tls.Config(), s.handshake, s.failed,
			newLobby(s.lane, s.http.ReadHeaderTimeout, s.http.IdleTimeout, s.refuse))
		return
	}
	s.listener = guardedListener{s.door, s.refuse}
}

// serve serves until the listener is closed or has a fault, over each protocol that it
// speaks.
func (s *server) serve() error {
	var serving errgroup.Group
	serving.Go(func() error { return s.http.Serve(s.listener) })
	if s.http2 != nil {
		serving.Go(func() error { return s.http2.Serve(s.listener.(*greeter).http2()) })
	}
	err := serving.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) && isClosed(s.leaving) {
		return nil
	}
	return fmt.Errorf("serving %s: %w", s.name, err)
}

// eachListener does something to every listener that speaks TLS.
func (g *gate) eachListener(do func(*mtls.Listener)) {
	for _, s := range g.servers {
		if s.tls != nil {
			do(s.tls)
		}
	}
}

// serverErrors turns what net/http says of its connections into log lines.
type serverErrors struct {
	log      *slog.Logger
	listener string
}

func (e *serverErrors) Write(text []byte) (int, error) {
	e.log.Warn("connection", "listener", e.listener, "detail", string(bytes.TrimSpace(text)))
	return len(text), nil
}

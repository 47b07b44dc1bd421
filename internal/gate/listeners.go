package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/internal/loadshed"
	"github.com/tallygate/tallygate/mtls"
)

// AdminConnections bounds the connections of the admin listener. Probes and scrapers are few, so 256
// are enough. The partners' listener has a limit of its own, so connections of partners cannot block
// probes. One client address gets a quarter of the limit, so that a single client cannot block the
// probes: the orchestrator would restart the gate after failed probes.
const AdminConnections = 256

// addServer adds a server. For each request, the server calls the handler that handler returns for the
// current state. active counts the concurrent requests, unless active is nil. The server uses TLS if the
// state has TLS settings for name. Only the partners' server may be behind PROXY protocol.
func (g *Gate) addServer(name string, address config.Address, active *atomic.Int64, handler func(*state) http.Handler) {
	s := &httpserver.Server{
		Name:            name,
		Address:         string(address),
		Limiter:         g.newConnLimiter(name, g.current.Load().cfg.Listener.Limits),
		TLS:             g.newListener(name),
		Limits:          g.current.Load().cfg.Listener.Limits,
		RefuseMalformed: g.malformedAt(name),
		HandshakeFailed: func(remote net.Addr, fault error) { g.handshakeFailed(name, remote, fault) },
		Panicked:        func(remote net.Addr, p *httpserver.PanicError) { g.logPanic(name, remote, p) },
		ErrorLog:        httpserver.NewErrorLog(g.log, name),
		LowMemory:       g.load.LowMemoryForRequests,
		ConnectionIdle:  g.idleMemory.ConnectionIdle,
		Active:          active,
	}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if active != nil {
			active.Add(1)
			defer active.Add(-1)
		}
		handler(g.current.Load()).ServeHTTP(w, r)
	})
	if name == PartnersListener {
		// The server must not bound the time for a body: the proxy lets a body take any time while
		// bytes arrive.
		s.HandlerBoundsTime = true
		s.ProxyProtocol = func() *config.ProxyProtocol { return g.current.Load().cfg.Listener.ProxyProtocol }
	}
	g.servers = append(g.servers, s)
}

// addAdminServer adds the server of the admin listener, which serves operators with net/http.
func (g *Gate) addAdminServer(address config.Address) {
	limits := g.current.Load().cfg.Listener.Limits
	g.servers = append(g.servers, &httpserver.Server{
		Name:    AdminListener,
		Address: string(address),
		Limiter: g.newConnLimiter(AdminListener, limits),
		Limits:  limits,
		Standard: &http.Server{
			Handler:           g.checkAdminHost(g.adminHandler()),
			MaxHeaderBytes:    int(limits.HeaderBytes),
			ReadHeaderTimeout: limits.HeaderTimeout,
			ReadTimeout:       limits.HeaderTimeout,
			WriteTimeout:      limits.StallTimeout,
			IdleTimeout:       limits.IdleTimeout,
			ErrorLog:          httpserver.NewErrorLog(g.log, AdminListener),
		},
	})
}

// newListener returns the TLS listener settings for name, nil without TLS.
func (g *Gate) newListener(name string) *mtls.Listener {
	if g.current.Load().tlsConfigs[name] == nil {
		return nil
	}
	var challenge func(*tls.ClientHelloInfo) *tls.Config
	if name == PartnersListener {
		challenge = g.acme.Challenge
	}
	return mtls.NewListener(func() *tls.Config { return g.current.Load().tlsConfigs[name] }, challenge)
}

// logPanic logs a panic that ended a connection.
func (g *Gate) logPanic(listener string, remote net.Addr, p *httpserver.PanicError) {
	g.log.Error("panic", "listener", listener, "remote", remote.String(), "error", p.Error(), "stack", p.Stack)
}

// newConnLimiter returns the connection limiter of the listener with this name. [httpserver.Server.Listen]
// sets the net.Listener of the limiter.
func (g *Gate) newConnLimiter(name string, limits config.Limits) *httpserver.ConnLimiter {
	labels := prometheus.Labels{"listener": name}
	d := &httpserver.ConnLimiter{
		Max: limits.Connections, MaxPerAddress: limits.ConnectionsPerAddress, LowMemory: g.load.LowMemory,
		Refused: g.refused.MustCurryWith(labels), Log: g.log.With("listener", name),
	}
	switch name {
	case ConsoleListener:
		d.Max, d.MaxPerAddress, d.LowMemory = min(d.Max, ConsoleConnections), min(d.MaxPerAddress, ConsoleConnections), nil
	case AdminListener:
		d.Max, d.MaxPerAddress, d.LowMemory = min(d.Max, AdminConnections), min(d.MaxPerAddress, AdminConnections/4), nil
	}
	for _, bound := range []string{httpserver.ByTotal, httpserver.ByAddress, httpserver.ByMemory} {
		d.Refused.WithLabelValues(bound)
	}
	g.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_connections_active", Help: "Open connections by listener.", ConstLabels: labels,
	}, func() float64 { return float64(d.Count()) }))
	return d
}

// Run opens the listeners, serves until ctx ends, and then stops the gate as finish describes. It
// returns nil after a clean stop. open opens a listener by its name and configured address.
func (g *Gate) Run(ctx context.Context, open func(name, address string) (net.Listener, error)) (err error) {
	issuer := g.current.Load().Issuer // the issuer of the first state; later states share its database and keys
	if issuer != nil {
		if err := issuer.Open(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, issuer.Close()) }()
	}
	if g.acme != nil {
		if err := g.acme.Open(); err != nil {
			return err
		}
	}
	g.logStart(ctx)
	g.clampToFileLimit(loadshed.FileLimit())
	for i, s := range g.servers {
		l, err := open(s.Name, s.Address)
		if err != nil {
			for _, opened := range g.servers[:i] {
				_ = opened.Close()
			}
			return fmt.Errorf("listening for %s: %w", s.Name, err)
		}
		s.Listen(l)
		g.log.InfoContext(ctx, "listening", "listener", s.Name, "address", l.Addr().String())
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(background)
	acmeContext, stopACME := context.WithCancel(background)
	defer stopACME()
	if g.acme != nil {
		group.Go(func() error {
			g.acme.Run(acmeContext, g.servers[g.challenged()].Limiter.Addr())
			return nil
		})
	}
	if issuer != nil {
		group.Go(func() error { return issuer.Run(background) })
		if g.current.Load().cfg.Issuer.Database == nil {
			group.Go(func() error { return g.serveOperator(background) })
		}
	}
	for _, s := range g.servers {
		group.Go(s.Serve)
	}
	group.Go(func() error { return g.watchLoop(background) })
	for _, run := range []func(context.Context){g.sweep, loadshed.PaceGC, g.idleMemory.Run, g.checkBypass, g.endRevoked} {
		group.Go(func() error {
			run(background)
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		// If ACME were still running, it would open the closed listeners again.
		return g.finish(ctx, serving, stopACME)
	})
	return group.Wait()
}

// challenged returns the index of the server that receives the challenges of ACME: the server for HTTP
// challenges or, if there is no such server, the partners' server, which is the first.
func (g *Gate) challenged() int {
	return max(0, slices.IndexFunc(g.servers, func(s *httpserver.Server) bool { return s.Name == acmeListener }))
}

// eachListener calls do with every listener that speaks TLS.
func (g *Gate) eachListener(do func(*mtls.Listener)) {
	for _, s := range g.servers {
		if s.TLS != nil {
			do(s.TLS)
		}
	}
}

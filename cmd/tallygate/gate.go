package main

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/acme"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/proxy"
)

// A gate is what listens, for the life of a process, and the state by which it decides at
// the moment.
type gate struct {
	*instruments
	file         string        // of the configuration
	level        slog.LevelVar // of the log
	current      atomic.Pointer[state]
	acme         *acme.Manager // nil: the listeners' certificates come from files
	streams      *proxy.Streams
	certificates digests // of handshakes that these ended
	servers      []*server
	drain
	reloads *reloads
	hangup  <-chan os.Signal // asks for a reload; nil: nobody does
	orders  <-chan os.Signal // asks to drain, without an end; nil: nobody does
}

// newGate returns a gate for the configuration in file, which writes its log to w. Its
// errors carry the exit code.
func newGate(file string, w io.Writer) (*gate, error) {
	own := look(file) // before it is read, see next
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, err
	}
	g := &gate{file: file, drain: drain{begun: make(chan struct{}), leaving: make(chan struct{})}}
	g.level.Set(cfg.Log.Level.Level())
	if g.instruments, err = newInstruments(newLog(w, &g.level)); err != nil {
		return nil, err
	}
	g.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_draining", Help: "1 from the moment that a stop was asked for.",
	}, func() float64 {
		if g.isDraining() {
			return 1
		}
		return 0
	}))
	g.reloads = newReloads(g.registry)
	g.reloads.seen = see(cfg, file, own)
	g.streams = proxy.NewStreams(func() *proxy.Proxy { return g.current.Load().proxy })
	if cfg.Listener.Certificate.ACME != nil {
		g.acme = acme.New(g.log, g.registry, g.handshakes.Challenged)
	}
	s, err := assemble(cfg, origin{instruments: g.instruments, trust: g.trust, streams: g.streams, acme: g.acme, parting: g.parting.Load})
	if err != nil {
		return nil, withCode(exitConfiguration, err)
	}
	g.take(s)
	g.reloads.took(file)
	s.tellExpiries(g.instruments)
	s.tellRisks(g.instruments)
	g.addServers(cfg)
	return g, nil
}

// take lets the gate go by s from the next request on, and returns what it went by before.
func (g *gate) take(s *state) (before *state) {
	before = g.current.Swap(s)
	if g.acme != nil {
		g.acme.Follow(s.cfg.Listener.Certificate.ACME, s.directory)
	}
	return before
}

// The listeners' names, in logs and metrics.
const (
	partnersListener = "partners"
	acmeListener     = "acme"
	issuerListener   = "issuer"
	aliasListener    = "issuer_mtls"
	adminListener    = "admin"
)

// addServers makes the listeners' servers, the admin's last: what listens then is
// everything.
func (g *gate) addServers(cfg *config.Config) {
	g.addServer(partnersListener, cfg.Listener.Address, &g.load.partners, func(s *state) http.Handler { return s.proxy })
	if settings := cfg.Listener.Certificate.ACME; settings != nil && settings.HTTPAddress != "" {
		g.addServer(acmeListener, settings.HTTPAddress, nil, func(*state) http.Handler { return g.acme })
	}
	if own := cfg.Issuer; own != nil {
		tokens := func(s *state) http.Handler { return g.endConnections(s.issuer) }
		g.addServer(issuerListener, own.Address, &g.load.issuer, tokens)
		if own.MTLSAlias != nil {
			g.addServer(aliasListener, own.MTLSAlias.Address, &g.load.issuer, tokens)
		}
	}
	admin := g.checkAdminHost(g.adminHandler())
	g.addServer(adminListener, cfg.Admin.Address, nil, func(*state) http.Handler { return admin })
}

// adminHandler serves probes and metrics, and nothing else.
func (g *gate) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("alive\n")) })
	mux.HandleFunc("GET /readyz", probe("ready", g.ready))
	mux.HandleFunc("GET /drained", probe("drained", g.drained))
	metrics := metricsHandler(g.registry)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		g.tellRenewed()
		metrics.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /assertion/jwks", func(w http.ResponseWriter, r *http.Request) {
		keys := g.current.Load().proxy.AssertionKeys()
		if keys == nil {
			keys = http.NotFoundHandler()
		}
		keys.ServeHTTP(w, r)
	})
	return mux
}

// probe answers with 200 and what is true while check returns nil, otherwise with 503 and
// its error.
func probe(truth string, check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(truth + "\n"))
	}
}

func (g *gate) trust() *mtls.Trust { return g.current.Load().trust }

// ready returns nil while the gate can decide about requests. The upstreams have no
// say in it: when one is down, its callers are better told by us than by nobody.
func (g *gate) ready() error {
	if g.isDraining() {
		return errDraining
	}
	now := g.current.Load()
	return errors.Join(now.ready(time.Now()), g.acme.Ready(), now.trust.Ready(), now.validator.Ready())
}

// tellRenewed tells when the certificates end that ACME brings.
func (g *gate) tellRenewed() {
	if g.acme == nil {
		return
	}
	notAfter, found := g.acme.NotAfter()
	if !found {
		return
	}
	s := g.current.Load()
	for _, name := range []string{partnersListener, issuerListener} {
		if _, files := s.pairs[name]; !files && s.settings[name] != nil {
			g.expiries.WithLabelValues("server", name).Set(float64(notAfter.Unix()))
		}
	}
}

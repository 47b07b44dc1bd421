// Package gate runs the process that serves: it builds the state that a configuration describes,
// listens, reloads, drains and stops, and serves the admin endpoints.
package gate

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/acme"
	"github.com/tallygate/tallygate/internal/buildinfo"
	"github.com/tallygate/tallygate/internal/bypass"
	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/internal/history"
	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/internal/loadshed"
	"github.com/tallygate/tallygate/internal/logsample"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/proxy"
)

// A Gate holds the listeners of a process for its whole life, and the state that currently decides
// about requests.
type Gate struct {
	*telemetry
	file             string // the configuration file
	started          time.Time
	level            slog.LevelVar // the level of the log
	pool             reuse.Pool    // objects that several states share
	current          atomic.Pointer[state]
	acme             *acme.Manager // nil: all certificates of the listeners come from files
	streams          *proxy.Streams
	failedHandshakes logsample.Samplers // samples the log lines about failed handshakes
	servers          []*httpserver.Server
	drain
	bypass         bypassCheck
	reloads        *reloads
	reloadRequests <-chan os.Signal // each value requests a reload; nil: no requests
	drainRequests  <-chan os.Signal // each value requests to drain without a stop; nil: no requests

	applicationProbes map[string]*applicationCaller // by name, see ForwardProbes
}

// New returns a gate for the configuration in file. The gate logs to w. An error is a fault of the
// configuration or of a file that it names.
func New(file string, w io.Writer) (*Gate, error) {
	own := filewatch.Stat(file) // taken before the file is read, see read
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	g := &Gate{file: file, started: time.Now(), drain: drain{draining: make(chan struct{}), listenersClosing: make(chan struct{})}}
	g.level.Set(cfg.Log.Level.Level())
	g.telemetry = newTelemetry(NewLog(w, &g.level))
	g.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_draining", Help: "Whether the gate is draining: 1 or 0.",
	}, func() float64 {
		if g.isDraining() {
			return 1
		}
		return 0
	}))
	if cfg.Admin.Console != nil {
		g.requests.History = history.New()
	}
	g.reloads = newReloads(g.registry)
	g.bypass = newBypassCheck(g.registry)
	g.reloads.seen = filewatch.Take(cfg.Files(), file, own)
	g.streams = proxy.NewStreams(func() *proxy.Proxy { return g.current.Load().Proxy })
	if cfg.Listener.Certificate.ACME != nil {
		g.acme = acme.New(g.log, g.registry, g.handshakes.Challenged)
	}
	s, err := g.build(cfg)
	if err != nil {
		return nil, err
	}
	g.swap(s)
	g.reloads.recordSuccess(file)
	s.exportExpiry(g.telemetry)
	s.warnInsecure(g.log)
	g.addServers(cfg)
	return g, nil
}

// ManageProcess makes g responsible for the whole process: g obeys the process's memory limit,
// warns of an outdated Go release and of APIs that are reachable past the gate, reloads at a value
// from reload and drains at a value from drain. ManageProcess must be called before Run.
func (g *Gate) ManageProcess(reload, drain <-chan os.Signal) {
	if warning := buildinfo.OutdatedWarning(runtime.Version()); warning != "" {
		g.log.Warn("outdated Go release", "advice", warning)
	}
	g.reloadRequests, g.drainRequests = reload, drain
	g.limitMemory(loadshed.MemoryLimit())
	g.bypass.own = bypass.Own
}

// The names of listeners in logs and metrics.
const (
	PartnersListener = "partners"
	acmeListener     = "acme"
	IssuerListener   = "issuer"
	AliasListener    = "issuer_mtls"
	ConsoleListener  = "console"
	AdminListener    = "admin"
)

// addServers creates the servers of all listeners. The admin listener is the last, so that an open
// admin listener means that all listeners are open.
func (g *Gate) addServers(cfg *config.Config) {
	g.addServer(PartnersListener, cfg.Listener.Address, &g.load.Partners, func(s *state) http.Handler { return s.Proxy })
	if settings := cfg.Listener.Certificate.ACME; settings != nil && settings.HTTPAddress != "" {
		g.addServer(acmeListener, settings.HTTPAddress, nil, func(*state) http.Handler { return g.acme })
	}
	if own := cfg.Issuer; own != nil {
		tokens := func(s *state) http.Handler { return g.endConnections(s.events.handler(s.Issuer)) }
		g.addServer(IssuerListener, own.Address, &g.load.Issuer, tokens)
		if own.MTLSAlias != nil {
			g.addServer(AliasListener, own.MTLSAlias.Address, &g.load.Issuer, tokens)
		}
	}
	g.addConsole(cfg)
	g.addAdminServer(cfg.Admin.Address)
}

// adminHandler serves probes, metrics and the key set of assertions.
func (g *Gate) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("alive\n")) })
	mux.HandleFunc("GET /readyz", probe("ready", g.ready))
	mux.HandleFunc("GET /application/{container}/{probe}", g.serveApplicationProbe)
	mux.HandleFunc("GET /drained", probe("drained", g.drained))
	metrics := metricsHandler(g.registry)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		g.exportACMEExpiry()
		metrics.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /assertion/jwks", func(w http.ResponseWriter, r *http.Request) {
		keys := g.current.Load().Proxy.AssertionKeys()
		if keys == nil {
			keys = http.NotFoundHandler()
		}
		keys.ServeHTTP(w, r)
	})
	return mux
}

// probe answers 200 with the text truth if check returns nil, and 503 with the error otherwise.
func probe(truth string, check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(truth + "\n"))
	}
}

func (g *Gate) trust() *mtls.Trust { return g.current.Load().Trust }

// ready returns nil while the gate can decide about requests. The state of upstreams does not matter:
// while an upstream is down, a ready gate answers 502, which tells clients more than the error of a
// load balancer without any ready gate.
func (g *Gate) ready() error {
	if g.isDraining() {
		return errDraining
	}
	now := g.current.Load()
	return errors.Join(now.ready(time.Now()), g.acme.Ready(), now.Trust.Ready(), now.Validator.Ready())
}

// exportACMEExpiry exports the end of validity of certificates from ACME.
func (g *Gate) exportACMEExpiry() {
	if g.acme == nil {
		return
	}
	notAfter, found := g.acme.NotAfter()
	if !found {
		return
	}
	s := g.current.Load()
	for _, name := range []string{PartnersListener, IssuerListener} {
		if _, files := s.keyPairs[name]; !files && s.tlsConfigs[name] != nil {
			g.expiries.WithLabelValues(serverRole, name).Set(float64(notAfter.Unix()))
		}
	}
}

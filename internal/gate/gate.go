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
	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/internal/loadshed"
	"github.com/tallygate/tallygate/internal/logsample"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/proxy"
)

// A Gate is what listens, for the life of a process, and the state by which it decides at
// the moment.
type Gate struct {
	*telemetry
	file         string        // of the configuration
	level        slog.LevelVar // of the log
	current      atomic.Pointer[state]
	acme         *acme.Manager // nil: the listeners' certificates come from files
	streams      *proxy.Streams
	certificates logsample.Samplers // of handshakes that these ended
	servers      []*httpserver.Server
	drain
	reloads        *reloads
	reloadRequests <-chan os.Signal // asks for a reload; nil: nobody does
	drainRequests  <-chan os.Signal // asks to drain, without an end; nil: nobody does
}

// New returns a gate for the configuration in file, which writes its log to w. An
// error is a fault of the configuration or of a file that it names.
func New(file string, w io.Writer) (*Gate, error) {
	own := filewatch.Stat(file) // before it is read, see next
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	g := &Gate{file: file, drain: drain{draining: make(chan struct{}), listenersClosing: make(chan struct{})}}
	g.level.Set(cfg.Log.Level.Level())
	if g.telemetry, err = newTelemetry(NewLog(w, &g.level)); err != nil {
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
	g.reloads.seen = filewatch.Take(cfg.Files(), file, own)
	g.streams = proxy.NewStreams(func() *proxy.Proxy { return g.current.Load().Proxy })
	if cfg.Listener.Certificate.ACME != nil {
		g.acme = acme.New(g.log, g.registry, g.handshakes.Challenged)
	}
	s, err := buildState(cfg, buildOptions{telemetry: g.telemetry, trust: g.trust, streams: g.streams, acme: g.acme, parting: g.closeAfterResponse.Load})
	if err != nil {
		return nil, err
	}
	g.swap(s)
	g.reloads.recordSuccess(file)
	s.exportExpiry(g.telemetry)
	s.warnInsecure(g.telemetry)
	g.addServers(cfg)
	return g, nil
}

// ManageProcess makes g the whole of the process: it keeps to the memory that the process may
// use, warns of an outdated Go release, reloads at a value from reload and drains at one from
// drain. It is called before run.
func (g *Gate) ManageProcess(reload, drain <-chan os.Signal) {
	if warning := buildinfo.OutdatedWarning(runtime.Version()); warning != "" {
		g.log.Warn("outdated Go release", "detail", warning)
	}
	g.reloadRequests, g.drainRequests = reload, drain
	g.limitMemory(loadshed.MemoryLimit())
}

// swap lets the gate go by s from the next request on, and returns what it went by before.
func (g *Gate) swap(s *state) (before *state) {
	before = g.current.Swap(s)
	if g.acme != nil {
		g.acme.Follow(s.cfg.Listener.Certificate.ACME, s.directory)
	}
	return before
}

// The listeners' names, in logs and metrics.
const (
	PartnersListener = "partners"
	acmeListener     = "acme"
	IssuerListener   = "issuer"
	AliasListener    = "issuer_mtls"
	AdminListener    = "admin"
)

// addServers makes the listeners' servers, the admin's last: what listens then is
// everything.
func (g *Gate) addServers(cfg *config.Config) {
	g.addServer(PartnersListener, cfg.Listener.Address, &g.load.Partners, func(s *state) http.Handler { return s.Proxy })
	if settings := cfg.Listener.Certificate.ACME; settings != nil && settings.HTTPAddress != "" {
		g.addServer(acmeListener, settings.HTTPAddress, nil, func(*state) http.Handler { return g.acme })
	}
	if own := cfg.Issuer; own != nil {
		tokens := func(s *state) http.Handler { return g.endConnections(s.Issuer) }
		g.addServer(IssuerListener, own.Address, &g.load.Issuer, tokens)
		if own.MTLSAlias != nil {
			g.addServer(AliasListener, own.MTLSAlias.Address, &g.load.Issuer, tokens)
		}
	}
	admin := g.checkAdminHost(g.adminHandler())
	g.addServer(AdminListener, cfg.Admin.Address, nil, func(*state) http.Handler { return admin })
}

// adminHandler serves probes and metrics, and nothing else.
func (g *Gate) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("alive\n")) })
	mux.HandleFunc("GET /readyz", probe("ready", g.ready))
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

func (g *Gate) trust() *mtls.Trust { return g.current.Load().Trust }

// ready returns nil while the gate can decide about requests. The upstreams have no
// say in it: when one is down, its callers are better told by us than by nobody.
func (g *Gate) ready() error {
	if g.isDraining() {
		return errDraining
	}
	now := g.current.Load()
	return errors.Join(now.ready(time.Now()), g.acme.Ready(), now.Trust.Ready(), now.Validator.Ready())
}

// exportACMEExpiry tells when the certificates end that ACME brings.
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
			g.expiries.WithLabelValues("server", name).Set(float64(notAfter.Unix()))
		}
	}
}

package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/policy"
	"github.com/tallygate/tallygate/proxy"
	"github.com/tallygate/tallygate/validate"
)

// A gate is everything that one configuration asks for, loaded and wired, before
// it listens.
type gate struct {
	log       *slog.Logger
	registry  *prometheus.Registry
	validator *validate.Validator
	issuer    *issuer.Issuer // nil: none is configured
	operator  string         // the socket on which the issuer takes orders
	trust     *mtls.Trust
	proxy     *proxy.Proxy
	servers   []*server
	draining  chan struct{} // closed when the gate is about to stop
}

// assemble loads what cfg names (certificates, anchors, keys) and wires the parts.
// It opens no listener, sends nothing and leaves the issuer's state alone, so that
// check can call it. All faults are reported at once.
func assemble(cfg *config.Config, log *slog.Logger) (*gate, error) {
	return assembleWith(cfg, log, nil)
}

// An ownIssuer is what the gate asks our own issuer.
type ownIssuer struct {
	validate.Local
	revoked func(access.Unchecked) bool
}

// assembleWith is assemble for a gate that asks another process's issuer, own, where that
// is not nil, and otherwise the one that it has itself.
func assembleWith(cfg *config.Config, log *slog.Logger, own *ownIssuer) (*gate, error) {
	g := &gate{log: log, registry: newRegistry(), draining: make(chan struct{})}
	g.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_draining", Help: "1 from the moment that a stop was asked for.",
	}, func() float64 {
		if g.isDraining() {
			return 1
		}
		return 0
	}))
	pairs, noPair := loadPairs(cfg)
	trust, noTrust := loadTrust(cfg)
	faults := []error{noPair, noTrust}

	if cfg.Issuer != nil && trust != nil {
		var err error
		g.issuer, err = issuer.New(cfg, issuer.Options{
			Anchors: trust.Anchors(), ResourceServerAnchors: trust.ResourceServerAnchors(),
			Certificate: trust.Client, Log: log, Metrics: g.registry,
		})
		faults = append(faults, err)
		if g.issuer != nil {
			if own == nil {
				own = &ownIssuer{validate.Local{KeySet: g.issuer.KeySet, Introspect: g.issuer.Resolve}, g.issuer.Revoked}
			}
			g.operator = operatorSocket(cfg)
			faults = append(faults, checkSocket(g.operator))
		}
	}
	if cfg.Issuer == nil || g.issuer != nil { // otherwise its fault would be told twice
		metrics, err := validate.NewMetrics(g.registry)
		faults = append(faults, err)
		options := validate.Options{Log: log, Metrics: metrics}
		if g.issuer != nil {
			options.Local = map[config.Identifier]validate.Local{cfg.Issuer.Issuer: own.Local}
			options.Revoked = own.revoked
		}
		g.validator, err = validate.New(cfg.AuthorizationServers, options)
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}

	g.trust = trust
	var err error
	g.proxy, err = proxy.New(cfg, proxy.Steps{
		Trust: trust, Validator: g.validator, Table: policy.New(cfg, trust.Anchors()),
	}, proxy.Options{Log: log, Metrics: proxy.NewMetrics(g.registry)})
	if err != nil {
		return nil, err
	}
	g.addServers(cfg, trust, pairs)
	g.exportExpiries(pairs)
	return g, nil
}

// The listeners' names, in logs and metrics.
const (
	partnersListener = "partners"
	issuerListener   = "issuer"
	aliasListener    = "issuer_mtls"
	adminListener    = "admin"
)

// addServers makes the listeners' servers, the admin's last: what listens then is
// everything.
func (g *gate) addServers(cfg *config.Config, trust *mtls.Trust, pairs map[string]tls.Certificate) {
	limits, listener := cfg.Listener.Limits, cfg.Listener
	handshakes := mtls.NewHandshakes(g.registry)
	settings := trust.ServerConfig(pairs[partnersListener], listener.MinimumVersion, listener.ClientCertificates.OnFailure, handshakes)
	g.addServer(partnersListener, listener.Address, g.proxy, settings, limits, handshakes)
	if g.issuer != nil {
		g.addIssuer(cfg, trust, pairs[issuerListener], handshakes)
	}
	g.addServer(adminListener, cfg.Admin.Address, g.adminHandler(), nil, limits, handshakes)
}

// addIssuer makes the issuer's servers: one for mutual TLS and, where that is an alias
// (RFC 8705 section 5), one that never asks for a certificate.
func (g *gate) addIssuer(cfg *config.Config, trust *mtls.Trust, pair tls.Certificate, handshakes *mtls.Handshakes) {
	limits, own := cfg.Listener.Limits, cfg.Issuer
	// The metadata and the key set are for everyone, so this listener finishes the
	// handshake whatever the certificate is; the endpoints judge it.
	mutual := trust.ServerConfig(pair, cfg.Listener.MinimumVersion, config.Answer, handshakes)
	if own.MTLSAlias == nil {
		g.addServer(issuerListener, own.Address, g.issuer, mutual, limits, handshakes)
		return
	}
	plain := mutual.Clone()
	plain.ClientAuth, plain.VerifyConnection = tls.NoClientCert, nil
	g.addServer(issuerListener, own.Address, g.issuer, plain, limits, handshakes)
	g.addServer(aliasListener, own.MTLSAlias.Address, g.issuer, mutual, limits, handshakes)
}

// loadPairs reads each listener's certificate and key. The issuer shows the partners'
// listener's where it has none of its own.
func loadPairs(cfg *config.Config) (map[string]tls.Certificate, error) {
	pair, err := mtls.LoadKeyPair(cfg.Listener.Certificate.Files)
	pairs := map[string]tls.Certificate{partnersListener: pair}
	if cfg.Issuer == nil {
		return pairs, err
	}
	pairs[issuerListener] = pair
	if files := cfg.Issuer.Certificate.Files; files != (config.KeyPair{}) {
		own, noOwn := mtls.LoadKeyPair(files)
		pairs[issuerListener], err = own, errors.Join(err, noOwn)
	}
	return pairs, err
}

// loadTrust reads the anchors, and holds them to belong to one partner each where
// nothing else tells two partners apart.
func loadTrust(cfg *config.Config) (*mtls.Trust, error) {
	trust, err := mtls.LoadTrust(cfg)
	if err != nil {
		return nil, err
	}
	return trust, policy.CheckAnchors(cfg, trust.Anchors())
}

// exportExpiries tells when each listener's certificate ends, and warns of one that
// has already.
func (g *gate) exportExpiries(pairs map[string]tls.Certificate) {
	ends := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tallygate_certificate_not_after_timestamp_seconds",
		Help: "End of validity of our own certificates, by role and listener.",
	}, []string{"role", "name"})
	g.registry.MustRegister(ends)
	for name, pair := range pairs {
		ends.WithLabelValues("server", name).Set(float64(pair.Leaf.NotAfter.Unix()))
		if time.Now().After(pair.Leaf.NotAfter) {
			g.log.Warn("listener certificate has expired", "listener", name, "not_after", pair.Leaf.NotAfter)
		}
	}
}

// adminHandler serves probes and metrics, and nothing else.
func (g *gate) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("alive\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := g.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", metricsHandler(g.registry))
	if keys := g.proxy.AssertionKeys(); keys != nil {
		mux.Handle("GET /assertion/jwks", keys)
	}
	return mux
}

var errDraining = errors.New("stopping")

// ready returns nil while the gate can decide about requests. The upstreams have no
// say in it: when one is down, its callers are better told by us than by nobody.
func (g *gate) ready() error {
	if g.isDraining() {
		return errDraining
	}
	return g.validator.Ready()
}

func (g *gate) isDraining() bool {
	select {
	case <-g.draining:
		return true
	default:
		return false
	}
}

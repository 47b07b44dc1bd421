package gate

import (
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/buildinfo"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/console"
	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/policy"
)

// ConsoleConnections bounds the connections of the console. A browser opens six, and few operators look at
// one gate at the same time.
const ConsoleConnections = 32

// addConsole adds the server of the console, if cfg has one.
func (g *Gate) addConsole(cfg *config.Config) {
	if cfg.Admin.Console == nil {
		return
	}
	limits := cfg.Listener.Limits
	s := &httpserver.Server{Name: ConsoleListener, Address: string(cfg.Admin.Console.Address), Limiter: g.newConnLimiter(ConsoleListener, limits), Limits: limits}
	s.Standard = &http.Server{
		Handler:           console.New(console.Source{State: g.consoleState, History: g.requests.History, Port: func() string { return portOf(s) }}),
		MaxHeaderBytes:    int(limits.HeaderBytes),
		ReadHeaderTimeout: limits.HeaderTimeout,
		ReadTimeout:       limits.HeaderTimeout,
		WriteTimeout:      limits.StallTimeout,
		IdleTimeout:       limits.IdleTimeout,
		ErrorLog:          httpserver.NewErrorLog(g.log, ConsoleListener),
	}
	g.servers = append(g.servers, s)
}

// portOf returns the port that s listens on.
func portOf(s *httpserver.Server) string {
	_, port, err := net.SplitHostPort(s.Limiter.Addr().String())
	if err != nil {
		return ""
	}
	return port
}

// consoleState returns what the console shows of the gate now.
func (g *Gate) consoleState() *console.State {
	s, loaded := g.current.Load(), g.reloads.outcome.Load()
	out := &console.State{
		Config: s.cfg, File: g.file, Hash: loaded.hash, Loaded: loaded.at, Fault: loaded.fault, FaultAt: loaded.faultAt, Draining: g.isDraining(),
		Started: g.started, Version: buildinfo.Read().Version, AnchorsEnd: s.Trust.AnchorsEnd(), Servers: s.Validator.Status(),
		Anchors: func(p *config.Partner) ([]*x509.Certificate, error) { return readAnchors(s.cfg, p) },
		Route:   s.route, Revocations: s.consoleRevocations(), Weakened: s.weakened(),
	}
	if err := g.ready(); err != nil && !errors.Is(err, errDraining) {
		out.Unready = err.Error()
	}
	for name, pair := range s.keyPairs {
		out.Certificates = append(out.Certificates, console.ListenerCertificate{Listener: name, Subject: certname.Text(pair.Leaf.RawSubject), Names: pair.Leaf.DNSNames, NotAfter: pair.Leaf.NotAfter})
	}
	if end, found := g.acmeEnd(); found {
		out.Certificates = append(out.Certificates, console.ListenerCertificate{Listener: PartnersListener, NotAfter: end})
	}
	slices.SortFunc(out.Certificates, func(a, b console.ListenerCertificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return out
}

func (g *Gate) acmeEnd() (time.Time, bool) {
	if g.acme == nil {
		return time.Time{}, false
	}
	return g.acme.NotAfter()
}

// readAnchors reads the anchors of a partner from their files. They may have changed since the gate read
// them, until the next reload.
func readAnchors(cfg *config.Config, p *config.Partner) (all []*x509.Certificate, err error) {
	files := p.Trust
	if len(files) == 0 {
		files = cfg.Listener.ClientCertificates.Trust
	}
	for _, file := range files {
		read, fault := pemfile.ReadAuthorities(string(file))
		err = errors.Join(err, fault)
		for _, c := range read {
			all = append(all, c.Certificate)
		}
	}
	return all, err
}

// route returns the API and the path pattern that s matches with a request, or "" for both.
func (s *state) route(method, host, path string) (api, route string) {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return "", ""
	}
	found := s.table.Labels(&http.Request{Method: method, Host: host, URL: u, RequestURI: path, Header: http.Header{}, ProtoMajor: 1, ProtoMinor: 1})
	if found.Route == policy.Unmatched {
		return "", ""
	}
	return found.API, found.Route
}

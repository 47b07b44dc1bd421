package authserver

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// http is allowed to this machine alone, and only with insecure_loopback_http, which is logged as
// a warning.
func TestInsecureLoopbackHTTP(t *testing.T) {
	s := newTestServer(t, false)
	s.publish(map[string]any{OAuthPath: M{"issuer": s.URL, "jwks_uri": s.URL + "/jwks"}})
	if err := s.server(t, "").Refresh(t.Context()); err == nil || len(s.asked()) != 0 {
		t.Errorf("Refresh over http without insecure_loopback_http = %v, want an error", err)
	}
	var log bytes.Buffer
	o := options()
	o.Log = slog.New(slog.NewJSONHandler(&log, nil))
	server, err := New(config.AuthorizationServer{
		Name: "partners", Issuer: config.Identifier(s.URL), Tokens: config.JWTOnly, Connection: config.Connection{InsecureLoopbackHTTP: true},
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Lease.Release()
	if err := server.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "insecure") || !strings.Contains(log.String(), `"WARN"`) {
		t.Errorf("unexpected log: %s", log.String())
	}
	for _, elsewhere := range []string{"http://as.example/jwks", "http://192.0.2.1/", "http://127.0.0.1.as.example/", "http://localhost.as.example/", "ftp://127.0.0.1/"} {
		s.publish(map[string]any{OAuthPath: M{"issuer": s.URL, "jwks_uri": elsewhere}})
		if err := server.Refresh(t.Context()); err == nil {
			t.Errorf("http to %s was allowed, want an error", elsewhere)
		}
	}
}

// The gate presents its certificate for any authorities that the server names, and reads the files
// for each connection. While the files do not match each other, the last good pair is used.
func TestClientCertificate(t *testing.T) {
	s := newTestServer(t, true)
	s.publish(map[string]any{OAuthPath: M{"issuer": s.URL}})
	server := s.server(t, "", mutual(s))
	copyFile := func(from, to string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(s.dir, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, to), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func() {
		t.Helper()
		if err := server.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		server.close() // the next fetch needs a new connection
	}
	read()
	copyFile("renewed.pem", "gate.pem")
	read() // half a renewal
	copyFile("renewed-key.pem", "gate-key.pem")
	read()
	if diff := cmp.Diff([]string{"gate", "gate", "renewed"}, s.shown); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, edit := range map[string]func(*config.Connection){
		"no such pair": func(c *config.Connection) { c.Certificate = config.KeyPair{Certificate: "x", Key: "y"} },
		"a foreign key": func(c *config.Connection) {
			c.Certificate = config.KeyPair{Certificate: s.path("ca.pem"), Key: s.path("gate-key.pem")}
		},
		"missing anchor": func(c *config.Connection) { c.Trust = []config.Path{"missing"} },
		"no anchor":      func(c *config.Connection) { c.Trust = []config.Path{s.path("gate-key.pem")} },
	} {
		settings := config.AuthorizationServer{Name: "partners", Issuer: "https://as.example"}
		edit(&settings.Connection)
		if _, err := New(settings, options()); err == nil {
			t.Errorf("New with %s = nil, want an error", name)
		}
	}
}

// After a reload with a replaced certificate, the new Server has its own connections and never
// presents the old certificate.
func TestReplacedClientCertificate(t *testing.T) {
	s := newTestServer(t, true)
	s.publish(map[string]any{OAuthPath: M{"issuer": s.URL}})
	settings := s.settings("")
	mutual(s)(&settings.Connection)
	pool := new(reuse.Pool)
	server := reopen(t, pool, settings)
	read := func(server *Server) {
		t.Helper()
		if err := server.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	read(server)
	if reopen(t, pool, settings) != server {
		t.Error("New without a change returned a new Server, want the previous one")
	}
	renewed := testpki.SelfSigned("renewed again")
	for name, content := range map[string][]byte{"gate.pem": renewed.CertPEM(), "gate-key.pem": renewed.KeyPEM()} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read(server) // over the open connection
	next := reopen(t, pool, settings)
	read(next)
	if diff := cmp.Diff([]string{"gate", "gate", "renewed again"}, s.shown); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if reopen(t, pool, settings) != next {
		t.Error("New with the same certificate returned a new Server, want the previous one")
	}
	anchors, err := os.ReadFile(filepath.Join(s.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "ca.pem"), append(anchors, testpki.NewCA("another").CertPEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	if reopen(t, pool, settings) == next {
		t.Error("New with another anchor in the same file returned the previous Server, want a new one")
	}
}

// A Server with new settings takes over the metadata if it needs no further members of the
// metadata, and if it still trusts all authorities that were trusted.
func TestInheritedMetadata(t *testing.T) {
	s := newTestServer(t, true)
	s.publish(map[string]any{OAuthPath: M{"issuer": s.URL, "jwks_uri": s.URL + "/jwks", "introspection_endpoint": s.URL + "/introspect"}})
	another, _ := testpki.NewCA("another").Write(s.dir, "another")
	as := func(edits ...func(*config.AuthorizationServer)) config.AuthorizationServer {
		settings := s.settings("")
		for _, edit := range edits {
			edit(&settings)
		}
		return settings
	}
	with := func(edit func(*config.Connection)) func(*config.AuthorizationServer) {
		return func(s *config.AuthorizationServer) { edit(&s.Connection) }
	}
	same := func(*config.AuthorizationServer) {}
	keys := func(s *config.AuthorizationServer) { s.Introspection = nil }
	opaque := func(s *config.AuthorizationServer) { s.Tokens = config.OpaqueOnly }
	two := with(func(c *config.Connection) { c.Trust = append(c.Trust, config.Path(another)) })
	insecure := with(func(c *config.Connection) { c.InsecureLoopbackHTTP = true })
	busy := func(s *config.AuthorizationServer) { s.Introspection = &config.Introspection{Concurrency: 7} }
	for name, c := range map[string]struct {
		before, after func(*config.AuthorizationServer)
		kept          bool
	}{
		"concurrency": {same, busy, true},
		"more trust":  {same, two, true}, "less trust": {two, same, false},
		"the system's": {same, with(func(c *config.Connection) { c.Trust = nil }), false},
		"http":         {same, insecure, true}, "http no more": {insecure, same, false},
		"keys alone": {same, keys, true}, "opaque tokens alone": {same, opaque, true},
		"introspection too": {keys, same, false}, "keys too": {opaque, same, false},
		"a certificate, by which another endpoint may count": {same, with(mutual(s)), false},
		"a certificate, where no endpoint counts":            {keys, func(s2 *config.AuthorizationServer) { keys(s2); mutual(s)(&s2.Connection) }, true},
		"another issuer": {same, func(s *config.AuthorizationServer) { s.Issuer += "/" }, false},
	} {
		pool := new(reuse.Pool)
		before := reopen(t, pool, as(c.before))
		if err := before.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := reopen(t, pool, as(c.after))
		if _, err := next.Metadata(); (err == nil) != c.kept || next == before {
			t.Errorf("%s: Metadata() error %v; previous Server returned: %t", name, err, next == before)
		}
	}
}

// An endpoint that is not needed may have any value, and a Server that needs more endpoints is a
// new Server.
func TestUnneededEndpoints(t *testing.T) {
	s := newTestServer(t, true)
	bad := "http://elsewhere.example/x"
	s.publish(map[string]any{OAuthPath: M{"issuer": s.URL, "jwks_uri": s.URL + "/jwks", "introspection_endpoint": bad}})
	keys, both, opaque := s.settings(""), s.settings(""), s.settings("")
	keys.Introspection, opaque.Tokens = nil, config.OpaqueOnly
	pool := new(reuse.Pool)
	server := reopen(t, pool, keys)
	if err := server.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	if m, err := server.Metadata(); err != nil || m.KeySet == nil || m.Introspection != nil {
		t.Errorf("Metadata() = %+v, %v; want the needed endpoint alone", m, err)
	}
	if err := open(t, both).Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "introspection_endpoint") {
		t.Errorf("Refresh = %v, want an error about introspection_endpoint", err)
	}
	s.publish(map[string]any{OAuthPath: M{"issuer": s.URL, "jwks_uri": bad, "introspection_endpoint": s.URL + "/introspect"}})
	if err := open(t, opaque).Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		settings config.AuthorizationServer
		kept     bool
	}{"keys": {keys, true}, "both": {both, false}, "opaque": {opaque, false}} {
		if next := reopen(t, pool, c.settings); (next == server) != c.kept {
			t.Errorf("%s: previous Server returned: %t", name, next == server)
		}
	}
}

// T-DOS-06: the proxy of the environment is not used.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("NO_PROXY", "")
	s := newTestServer(t, true)
	s.publish(map[string]any{OAuthPath: M{"issuer": s.URL}})
	server := s.server(t, "")
	if server.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("Transport.Proxy is set, want nil")
	}
	if err := server.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
}

// A tunnel is a proxy that connects every CONNECT to one address and refuses other requests.
type tunnel struct {
	*httptest.Server
	target string
	hosts  atomic.Pointer[string] // the hosts of the last CONNECT
}

func newTunnel(t *testing.T, target string) *tunnel {
	t.Helper()
	p := &tunnel{target: target}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			t.Errorf("the proxy got %s %s, want CONNECT alone", r.Method, r.URL)
			return
		}
		p.hosts.Store(&r.Host)
		to, err := net.Dial("tcp", p.target)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = to.Close() }()
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = from.Close() }()
		_, _ = from.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		go func() { _, _ = io.Copy(to, from); _ = to.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *tunnel) url(t *testing.T) *config.URL {
	t.Helper()
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &config.URL{URL: *u}
}

// A configured proxy forwards TLS to the server, and the server's certificate still has to be for the
// server's name. The environment's proxy is used by choice alone, and NO_PROXY holds for it.
func TestProxy(t *testing.T) {
	s := newTestServer(t, true)
	s.publish(map[string]any{OAuthPath: M{"issuer": s.URL}})
	address := strings.TrimPrefix(s.URL, "https://")
	p := newTunnel(t, address)
	if err := s.server(t, "", func(c *config.Connection) { c.Proxy = p.url(t) }).Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	if got := p.hosts.Swap(nil); got == nil || *got != address {
		t.Errorf("CONNECT to %v, want %s", got, address)
	}
	other := newTestServer(t, true)
	other.publish(map[string]any{OAuthPath: M{"issuer": s.URL}})
	intercepting := newTunnel(t, strings.TrimPrefix(other.URL, "https://"))
	if err := s.server(t, "", func(c *config.Connection) { c.Proxy = intercepting.url(t) }).Refresh(t.Context()); err == nil || len(other.asked()) > 0 {
		t.Errorf("Refresh through a proxy that intercepts = %v with %d requests, want an error and none", err, len(other.asked()))
	}

	// httpproxy never sends requests for this machine to a proxy, so a name stands for the server.
	proxyOfURL := func(c config.Connection, to string) string {
		t.Helper()
		choose := proxyOf(&c)
		if choose == nil {
			return "none"
		}
		r, err := http.NewRequest(http.MethodGet, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		u, err := choose(r)
		if err != nil {
			return err.Error()
		}
		if u == nil {
			return "direct"
		}
		return u.String()
	}
	t.Setenv("HTTPS_PROXY", "http://proxy.example:3128")
	t.Setenv("HTTP_PROXY", "http://proxy.example:3128")
	t.Setenv("NO_PROXY", "near.example")
	explicit, environment := config.Connection{Proxy: p.url(t)}, config.Connection{ProxyFromEnvironment: true}
	for _, c := range []struct {
		connection config.Connection
		to, want   string
	}{
		{config.Connection{}, "https://as.example/", "none"},
		{environment, "https://as.example/", "http://proxy.example:3128"},
		{environment, "https://near.example/", "direct"},
		{environment, "http://keycloak.auth.svc/", "direct"},
		{explicit, "https://near.example/", p.URL},
		{explicit, "http://keycloak.auth.svc/", "direct"},
	} {
		if got := proxyOfURL(c.connection, c.to); got != c.want {
			t.Errorf("proxy for %s = %s, want %s", c.to, got, c.want)
		}
	}
	t.Setenv("HTTPS_PROXY", "https://proxy.example:3128")
	if got := proxyOfURL(environment, "https://as.example/"); got != errProxyScheme.Error() {
		t.Errorf("https proxy of the environment: %s, want %v", got, errProxyScheme)
	}
}

// A proxy chooses the text of its status line, so the text must not reach the log.
func TestProxyRefusesConnect(t *testing.T) {
	s := newTestServer(t, true)
	for _, status := range []string{"407 hunter2", "502 hunter2", "201 hunter2", "999 hunter2"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
				_ = conn.Close()
			}
		}()
		proxy := config.URL{URL: url.URL{Scheme: "http", Host: listener.Addr().String()}}
		err = s.server(t, "", func(c *config.Connection) { c.Proxy = &proxy }).Refresh(t.Context())
		_ = listener.Close()
		if want := "the proxy answered CONNECT with status " + status[:3]; err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Refresh through a proxy that answers %q = %v, want an error with %q and without hunter2", status, err, want)
		}
		if asked := s.asked(); len(asked) > 0 {
			t.Errorf("%q: the server got %v, want no request", status, asked)
		}
	}
}

// Plain http to a service of the cluster is allowed for the hosts that are listed, and logged as a
// warning. Metadata cannot lead to another host over http, and documents that were fetched over http
// are not taken over once it is forbidden.
func TestInsecureHTTPHosts(t *testing.T) {
	settings := config.AuthorizationServer{Name: "partners", Issuer: "https://sso.example", Tokens: config.JWTOnly, Connection: config.Connection{InsecureHTTPHosts: []config.Host{"keycloak.auth.svc", "hydra"}}}
	var log bytes.Buffer
	o := options()
	o.Log = slog.New(slog.NewJSONHandler(&log, nil))
	defer o.Lease.Release()
	server, err := New(settings, o)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `"WARN"`) || !strings.Contains(log.String(), "insecure") || !strings.Contains(log.String(), "keycloak.auth.svc") {
		t.Errorf("log = %s, want a warning with the hosts", log.String())
	}
	for text, want := range map[string]bool{
		"http://keycloak.auth.svc:8080/jwks": true, "http://KEYCLOAK.auth.svc/jwks": true, "http://hydra/keys": true, "https://as.example/": true,
		"http://keycloak.auth.svc.evil.example/": false, "http://x.keycloak.auth.svc/": false, "http://other.auth.svc/": false,
		"http://127.0.0.1/": false, "http://localhost/": false, "ftp://hydra/": false, "http://sso.example/": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := server.allowsURL(u); got != want {
			t.Errorf("%s allowed: %t, want %t", text, got, want)
		}
	}
	s := newTestServer(t, false)
	named := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	s.publish(map[string]any{OAuthPath: M{"issuer": named, "jwks_uri": named + "/jwks"}})
	for _, hosts := range [][]config.Host{nil, {"hydra"}, {"localhost"}} {
		near := config.AuthorizationServer{Name: "near", Issuer: config.Identifier(named), Tokens: config.JWTOnly, Connection: config.Connection{InsecureHTTPHosts: hosts}}
		over, err := New(near, o)
		if err != nil {
			t.Fatal(err)
		}
		allowed := slices.Contains(hosts, "localhost")
		if err := over.Refresh(t.Context()); (err == nil) != allowed || len(s.asked()) > 0 != allowed {
			t.Errorf("Refresh over http with hosts %q = %v, want success: %t", hosts, err, allowed)
		}
	}
	stricter := settings
	stricter.Connection.InsecureHTTPHosts = []config.Host{"hydra"}
	next, err := New(stricter, o)
	if err != nil {
		t.Fatal(err)
	}
	if next.CanReuse(server) || !server.CanReuse(next) {
		t.Errorf("documents over http reusable after the host left: %t, before: %t, want false and true", next.CanReuse(server), server.CanReuse(next))
	}
}

// Names and help pass promlint.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	NewMetrics(registry).forServer(new(reuse.Pool).Lease(), "partners")
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

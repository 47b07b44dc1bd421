package authserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type M = testpki.M

// A testServer is an authorization server over TLS or plain HTTP.
type testServer struct {
	*httptest.Server
	dir    string
	answer atomic.Pointer[http.HandlerFunc]

	mu    sync.Mutex
	paths []string // requested paths
	shown []string // common names of the client certificates
}

func newTestServer(t *testing.T, secure bool) *testServer {
	t.Helper()
	s := &testServer{dir: t.TempDir()}
	ca := testpki.NewCA("private CA")
	ca.Write(s.dir, "ca")
	ca.Leaf("gate").Write(s.dir, "gate")
	ca.Leaf("renewed").Write(s.dir, "renewed")
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.URL.Path)
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			s.shown = append(s.shown, r.TLS.PeerCertificates[0].Subject.CommonName)
		}
		s.mu.Unlock()
		(*s.answer.Load())(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.serve(http.NotFound)
	if secure {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost", testpki.IP("127.0.0.1")).TLS()}, ClientAuth: tls.RequestClientCert}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *testServer) serve(answer http.HandlerFunc) { s.answer.Store(&answer) }

// publish serves documents by path.
func (s *testServer) publish(documents map[string]any) {
	s.serve(func(w http.ResponseWriter, r *http.Request) {
		d, ok := documents[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		text, isText := d.(string)
		if !isText {
			b, _ := json.Marshal(d)
			text = string(b)
		}
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		_, _ = w.Write([]byte(text))
	})
}

// asked returns the paths that were requested since the last call.
func (s *testServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := s.paths
	s.paths = nil
	return paths
}

func (s *testServer) path(name string) config.Path { return config.Path(filepath.Join(s.dir, name)) }

// server returns the Server for s with an issuer that ends in path.
func (s *testServer) server(t *testing.T, path string, edits ...func(*config.Connection)) *Server {
	t.Helper()
	settings := s.settings(path)
	for _, edit := range edits {
		edit(&settings.Connection)
	}
	return open(t, settings)
}

// settings returns the settings of a gate that needs keys and introspection.
func (s *testServer) settings(path string) config.AuthorizationServer {
	return config.AuthorizationServer{
		Name: "partners", Issuer: config.Identifier(s.URL + path), Tokens: config.BothKinds,
		Connection: config.Connection{Trust: []config.Path{s.path("ca.pem")}}, Introspection: &config.Introspection{},
	}
}

func open(t *testing.T, settings config.AuthorizationServer) *Server {
	t.Helper()
	return reopen(t, new(reuse.Pool), settings)
}

// reopen returns the Server that New makes of settings for the next lease of pool.
func reopen(t *testing.T, pool *reuse.Pool, settings config.AuthorizationServer) *Server {
	t.Helper()
	o := options()
	o.Lease = pool.Lease()
	server, err := New(settings, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Lease.Release)
	return server
}

// options returns options with a lease that shares nothing.
func options() Options {
	return Options{Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(nil), Now: time.Now, Lease: new(reuse.Pool).Lease()}
}

func mutual(s *testServer) func(*config.Connection) {
	return func(c *config.Connection) {
		c.Certificate = config.KeyPair{Certificate: s.path("gate.pem"), Key: s.path("gate-key.pem")}
	}
}

// RFC 8414 sections 3 and 5, OpenID Connect Discovery section 4: the locations of metadata and
// their order. The search ends at the first valid document.
func TestMetadataURLs(t *testing.T) {
	s := newTestServer(t, true)
	for _, c := range []struct {
		path, at string
		asked    []string
	}{
		{"", OAuthPath, []string{OAuthPath}},
		{"/", OAuthPath, []string{OAuthPath}},
		{"", OpenIDPath, []string{OAuthPath, OpenIDPath}},
		{"/realms/a", OAuthPath + "/realms/a", []string{OAuthPath + "/realms/a"}},
		{"/realms/a", "/realms/a" + OpenIDPath, []string{OAuthPath + "/realms/a", "/realms/a" + OpenIDPath}},
		{"/realms/a/", OpenIDPath + "/realms/a", []string{OAuthPath + "/realms/a", "/realms/a" + OpenIDPath, OpenIDPath + "/realms/a"}},
		{"/realms/a", "/nowhere", []string{OAuthPath + "/realms/a", "/realms/a" + OpenIDPath, OpenIDPath + "/realms/a"}},
		{"", "/nowhere", []string{OAuthPath, OpenIDPath}},
	} {
		s.publish(map[string]any{c.at: M{"issuer": s.URL + c.path, "jwks_uri": s.URL + "/jwks"}})
		server := s.server(t, c.path)
		if err := server.Refresh(t.Context()); (err == nil) != (c.at != "/nowhere") {
			t.Errorf("issuer path %s with metadata at %s: %v", c.path, c.at, err)
		}
		if diff := cmp.Diff(c.asked, s.asked()); diff != "" {
			t.Errorf("%s at %s (-want +got):\n%s", c.path, c.at, diff)
		}
	}
}

// RFC 8414 section 3.3 and the other requirements on metadata, one line for each case.
func TestMetadata(t *testing.T) {
	s := newTestServer(t, true)
	good := M{"issuer": s.URL, "jwks_uri": "https://keys.example/jwks?a=b", "introspection_endpoint": "https://as.example/introspect",
		"mtls_endpoint_aliases": M{"introspection_endpoint": "https://mtls.as.example/introspect"}}
	with := func(edits ...M) M {
		m := M{}
		for _, e := range append([]M{good}, edits...) {
			for k, v := range e {
				if m[k] = v; v == nil {
					delete(m, k)
				}
			}
		}
		return m
	}
	const plain, alias = "https://as.example/introspect", "https://mtls.as.example/introspect"
	for _, c := range []struct {
		name        string
		document    any
		mutual      bool
		keys, asked string // URLs; both empty: refused
	}{
		{"all of it", with(), false, "https://keys.example/jwks?a=b", plain},
		{"with a certificate", with(), true, "https://keys.example/jwks?a=b", alias},
		{"with a certificate, without aliases", with(M{"mtls_endpoint_aliases": nil}), true, "https://keys.example/jwks?a=b", plain},
		{"without introspection", with(M{"introspection_endpoint": nil}), false, "https://keys.example/jwks?a=b", ""},
		{"unknown members", with(M{"x": []any{M{}}}), false, "https://keys.example/jwks?a=b", plain},
		{"another issuer", with(M{"issuer": "https://evil.example"}), false, "", ""},
		{"issuer with a slash", with(M{"issuer": s.URL + "/"}), false, "", ""},
		{"issuer in upper case", with(M{"issuer": strings.ToUpper(s.URL)}), false, "", ""},
		{"issuer missing", with(M{"issuer": nil}), false, "", ""},
		{"issuer a list", with(M{"issuer": []string{s.URL}}), false, "", ""},
		{"Issuer", with(M{"issuer": nil, "Issuer": s.URL}), false, "", ""},
		{"issuer twice", `{"issuer":"https://evil.example","issuer":"` + s.URL + `"}`, false, "", ""},
		{"keys by http", with(M{"jwks_uri": "http://keys.example/jwks"}), false, "", ""},
		{"keys by http to this machine", with(M{"jwks_uri": "http://127.0.0.1/jwks"}), false, "", ""},
		{"keys in a file", with(M{"jwks_uri": "file:///etc/passwd"}), false, "", ""},
		{"keys at a path", with(M{"jwks_uri": "/jwks"}), false, "", ""},
		{"keys with a user", with(M{"jwks_uri": "https://user:secret@keys.example/"}), false, "", ""},
		{"keys with a fragment", with(M{"jwks_uri": "https://keys.example/#x"}), false, "", ""},
		{"introspection by http", with(M{"introspection_endpoint": "http://as.example/"}), false, "", ""},
		{"HTML", "<html></html>", false, "", ""},
		{"empty", "", false, "", ""},
		{"null", "null", false, "", ""},
		{"an array", "[]", false, "", ""},
		{"large", with(M{"x": strings.Repeat("x", MaxMetadata)}), false, "", ""},
		{"deep", with(M{"x": json.RawMessage(strings.Repeat("[", 33) + strings.Repeat("]", 33))}), false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.publish(map[string]any{OAuthPath: c.document})
			var edits []func(*config.Connection)
			if c.mutual {
				edits = append(edits, mutual(s))
			}
			server := s.server(t, "", edits...)
			err := server.Refresh(t.Context())
			m, unread := server.Metadata()
			if c.keys == "" && c.asked == "" {
				if err == nil || unread == nil {
					t.Fatalf("metadata %+v was accepted, want an error", m)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("error %v quotes a secret", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for want, got := range map[string]*url.URL{c.keys: m.KeySet, c.asked: m.Introspection} {
				if want == "" && got != nil || want != "" && (got == nil || got.String() != want) {
					t.Errorf("got %v, want %q", got, want)
				}
			}
		})
	}
}

// Run fetches the metadata of a server that was down at the start, keeps it while the server is
// down again, and calls OnChange for changes alone.
func TestRun(t *testing.T) {
	s := newTestServer(t, true)
	server := s.server(t, "")
	var log bytes.Buffer
	server.log = slog.New(slog.NewJSONHandler(&log, nil))
	var changes atomic.Int64
	server.OnChange(func() { changes.Add(1) })
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { server.Run(ctx) })
	gatetest.Eventually(t, "failing", func() bool { return testutil.ToFloat64(server.metrics.failed) >= 1 })
	if _, err := server.Metadata(); err != ErrNoMetadata { //nolint:errorlint // the very value is promised
		t.Errorf("Metadata() before a fetch: %v, want ErrNoMetadata", err)
	}
	s.publish(map[string]any{OpenIDPath: M{"issuer": s.URL, "jwks_uri": "https://keys.example/1"}})
	gatetest.Eventually(t, "read", func() bool { return changes.Load() == 1 })
	stop()
	run.Wait()
	read := func(want int64) {
		t.Helper()
		_ = server.Refresh(t.Context())
		if n := changes.Load(); n != want {
			t.Errorf("%d changes, want %d", n, want)
		}
	}
	read(1)
	s.serve(http.NotFound)
	read(1)
	if m, err := server.Metadata(); err != nil || m.KeySet.Path != "/1" {
		t.Errorf("Metadata() = %v, %v; want the last good metadata", m, err)
	}
	s.publish(map[string]any{OpenIDPath: M{"issuer": s.URL, "jwks_uri": "https://keys.example/2"}})
	read(2)
	if !strings.Contains(log.String(), `"issuer":"partners"`) {
		t.Errorf("unexpected log: %s", log.String())
	}
}

// If the server cannot be reached, only one location is tried, and a fetch has a timeout.
func TestUnreachable(t *testing.T) {
	s := newTestServer(t, true)
	server := s.server(t, "/realms/a")
	s.serve(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if err := server.Refresh(t.Context()); err == nil || len(s.asked()) != 1 {
		t.Errorf("Refresh = %v, want one request", err)
	}
	s.serve(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := server.Refresh(ctx); err == nil {
		t.Error("Refresh from a hanging server = nil, want a timeout")
	}
	if _, ok := ctx.Deadline(); !ok || FetchTimeout > 10*time.Second {
		t.Error("a fetch has no timeout, want one")
	}
}

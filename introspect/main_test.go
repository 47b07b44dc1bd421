package introspect

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer   = "https://as.example"
	audience = "https://api.example"
)

type M = testpki.M

// An authorizationServer is an introspection endpoint over TLS.
type authorizationServer struct {
	*httptest.Server
	t      testing.TB
	dir    string // with ca.pem, gate.pem, gate-key.pem, secret, assertion.pem
	key    *testpki.Signer
	answer atomic.Pointer[http.HandlerFunc]
	calls  atomic.Int64
	now    atomic.Int64 // how far the gate's clock is ahead
	// breakerTimeout is for clients that are made afterwards; 0: the default.
	breakerTimeout time.Duration

	mu   sync.Mutex
	last *http.Request // the last request, with its form parsed
}

func newAuthority(t testing.TB) *authorizationServer {
	t.Helper()
	a := &authorizationServer{t: t, dir: t.TempDir(), key: testpki.NewSigner("ES256", "k1")}
	ca := testpki.NewCA("private CA")
	ca.Write(a.dir, "ca")
	ca.Leaf("gate", testpki.DNS("gate.example")).Write(a.dir, "gate")
	testpki.SelfSigned("assertions").Write(a.dir, "assertion")
	a.write("secret", " s3cret/+%\n")
	a.write("jwks.json", string(testpki.KeySet(a.key)))
	a.responds(M{"active": false})
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.calls.Add(1)
		_ = r.ParseForm()
		a.mu.Lock()
		a.last = r
		a.mu.Unlock()
		(*a.answer.Load())(w, r)
	}))
	a.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	pool := testpki.Pool(ca)
	a.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.Leaf("localhost", testpki.IP("127.0.0.1")).TLS()},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: pool,
	}
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

func (a *authorizationServer) write(name, content string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authorizationServer) path(name string) config.Path {
	return config.Path(filepath.Join(a.dir, name))
}

func (a *authorizationServer) serve(answer http.HandlerFunc) { a.answer.Store(&answer) }

// responds sets the response to every request.
func (a *authorizationServer) responds(response M) {
	text := gatetest.JSON(response)
	a.serve(func(w http.ResponseWriter, _ *http.Request) { reply200(w, "application/json", text) })
}

func reply200(w http.ResponseWriter, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	_, _ = w.Write(body)
}

// active returns the response about a good token.
func active(edits ...M) M {
	m := M{
		"active": true, "iss": issuer, "aud": audience, "client_id": "northwind-ledger", "sub": "northwind-ledger",
		"exp": time.Now().Add(time.Hour).Unix(), "scope": "accounts:read", "token_type": "Bearer",
		"cnf": M{"x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"},
	}
	for _, edit := range edits {
		for k, v := range edit {
			if v == nil {
				delete(m, k)
			} else {
				m[k] = v
			}
		}
	}
	return m
}

// request returns the last request.
func (a *authorizationServer) request() *http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// settings returns the defaults of package config for a gate that introspects at a.
func (a *authorizationServer) settings(edits ...func(*config.AuthorizationServer)) config.AuthorizationServer {
	u, err := url.Parse(a.URL + "/introspect?secret=canary")
	if err != nil {
		a.t.Fatal(err)
	}
	s := config.AuthorizationServer{
		Name: "partners", Issuer: issuer, Audiences: []string{audience}, Tokens: config.OpaqueOnly,
		Algorithms: []config.Algorithm{config.ES256}, Leeway: 30 * time.Second,
		Connection: config.Connection{
			Trust:       []config.Path{a.path("ca.pem")},
			Certificate: config.KeyPair{Certificate: a.path("gate.pem"), Key: a.path("gate-key.pem")},
		},
		KeySet: config.KeySet{File: a.path("jwks.json"), Refresh: time.Hour, CoolDown: time.Hour, MaxStale: 24 * time.Hour},
		Introspection: &config.Introspection{
			Endpoint: &config.URL{URL: *u}, ClientID: "gate",
			Authentication: config.IntrospectionAuthentication{Method: config.MethodTLS},
			Timeout:        2 * time.Second, Concurrency: 64,
			Cache: config.IntrospectionCache{
				Entries: 1000, MaxAge: time.Minute, InactiveEntries: 100, InactiveMaxAge: 5 * time.Second,
			},
		},
	}
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

// client returns a client of a.
func (a *authorizationServer) client(edits ...func(*config.AuthorizationServer)) *Client {
	a.t.Helper()
	c, err := a.open(edits...)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *authorizationServer) open(edits ...func(*config.AuthorizationServer)) (*Client, error) {
	settings, log := a.settings(edits...), slog.New(slog.DiscardHandler)
	lease := new(reuse.Pool).Lease()
	a.t.Cleanup(lease.Release)
	now := func() time.Time { return time.Now().Add(time.Duration(a.now.Load())) }
	remote, err := authserver.New(settings, authserver.Options{Log: log, Metrics: authserver.NewMetrics(nil), Now: now, Lease: lease})
	if err != nil {
		return nil, err
	}
	keys, err := jwks.New(settings, jwks.Options{Log: log, Metrics: jwks.NewMetrics(nil), Now: now, Lease: lease})
	if err != nil {
		return nil, err
	}
	c, err := New(settings, Options{Remote: remote, Keys: keys, Memory: cache.NewPool(cache.DefaultBytes), Log: log, Metrics: NewMetrics(nil), Now: now, Lease: lease, breakerTimeout: a.breakerTimeout})
	if err == nil {
		a.t.Cleanup(c.CancelRequests)
	}
	return c, err
}

// advance moves the gate's clock ahead.
func (a *authorizationServer) advance(d time.Duration) { a.now.Add(int64(d)) }

// certificateOf returns the certificate of that number, issued by authority.
func certificateOf(holder int, authority ...byte) *access.Certificate {
	c := &access.Certificate{Thumbprint: access.Thumbprint{byte(holder), byte(holder >> 8)}}
	for _, a := range authority {
		c.Anchors = append(c.Anchors, access.AnchorKey{a})
	}
	return c
}

// ownedByNorthwind caches every response for one partner.
func ownedByNorthwind(*access.Unchecked) string { return "northwind" }

// queryOf asks about a token. A cached response of any age will do.
func queryOf(raw string) Query { return Query{Token: raw, Sum: facts.SumOf(raw)} }

// at returns r as the response to a request at the time t.
func (r response) at(t time.Time) *response {
	r.RequestedAt = t
	return &r
}

// introspectToken uses c as package validate does: first the cache, then the server.
func introspectToken(t testing.TB, c *Client, raw string) (*access.Unchecked, access.Reason) {
	t.Helper()
	return introspectWith(t, c, raw, certificateOf(1, 1))
}

// introspectWith introspects a token that came with cert.
func introspectWith(t testing.TB, c *Client, raw string, cert *access.Certificate) (*access.Unchecked, access.Reason) {
	t.Helper()
	q := queryOf(raw)
	if says := c.Lookup(q); says != nil {
		return &says.Claims, access.Granted
	}
	says, err := c.Introspect(t.Context(), q, cert, ownedByNorthwind, nil)
	if err == nil {
		return &says.Claims, access.Granted
	}
	var d *access.Denial
	if !errors.As(err, &d) || says != nil {
		t.Fatalf("claims %v and an error that wraps no Denial: %v", says, err)
	}
	return nil, d.Reason
}

func expect(t testing.TB, c *Client, raw string, want access.Reason) {
	t.Helper()
	if _, got := introspectToken(t, c, raw); got != want {
		t.Errorf("%s: got %s, want %s", raw, got, want)
	}
}

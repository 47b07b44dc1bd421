package subscriber

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/revocation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type M = testpki.M

const issuer = gatetest.Issuer

var (
	key   = testpki.NewSigner("ES256", "k1")
	other = testpki.NewSigner("ES256", "k1") // an attacker's key with the same kid
)

// An issuerServer is an issuer that answers as a test says, over mutual TLS.
type issuerServer struct {
	*httptest.Server
	t      testing.TB
	ca     *testpki.Pair
	dir    string // with the gate's certificate
	answer func(c *connection)
	opened map[*Subscriber]bool

	mu   sync.Mutex
	keys []byte
	asks []string // Last-Event-ID of each request for the feed
}

// A connection is one request for the feed.
type connection struct {
	http.ResponseWriter
	request *http.Request
	n       int // 0 for the first request
	iat     time.Time
}

func newIssuer(t testing.TB, answer func(c *connection)) *issuerServer {
	s := &issuerServer{t: t, ca: testpki.NewCA("Internal CA"), answer: answer, opened: make(map[*Subscriber]bool), keys: testpki.KeySet(key)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the tests break streams on purpose
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{s.ca.Leaf("as", testpki.IP("127.0.0.1")).TLS()},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: testpki.Pool(s.ca),
	}
	s.StartTLS()
	s.dir = t.TempDir()
	s.ca.Leaf("orders-gate").Write(s.dir, "gate")
	gatetest.WriteFile(t, s.dir+"/ca.pem", s.ca.CertPEM())
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *issuerServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if r.URL.Path == "/jwks" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(s.keys)
		s.mu.Unlock()
		return
	}
	n := len(s.asks)
	s.asks = append(s.asks, r.Header.Get("Last-Event-ID"))
	s.mu.Unlock()
	if got := r.URL.String(); got != "/revocations?client_id=orders-gate" || r.TLS.PeerCertificates[0].Subject.CommonName != "orders-gate" {
		s.t.Errorf("request of %s from %s, want the feed from orders-gate", got, r.TLS.PeerCertificates[0].Subject)
	}
	s.answer(&connection{w, r, n, time.Now()})
}

// asked returns the Last-Event-ID of each request for the feed.
func (s *issuerServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asks)
}

func (s *issuerServer) publish(keys ...*testpki.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = testpki.KeySet(keys...)
}

// begin sends the header of the answer.
func (c *connection) begin() {
	c.Header().Set("Content-Type", "text/event-stream")
	c.WriteHeader(http.StatusOK)
	c.flush()
}

func (c *connection) flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }

func (c *connection) raw(text string) {
	_, _ = io.WriteString(c, text)
	c.flush()
}

func (c *connection) event(name, data string) {
	c.raw("event: " + name + "\nid: e:0\ndata: " + data + "\n\n")
}

// idle keeps the stream open until the client disconnects.
func (c *connection) idle() { <-c.request.Context().Done() }

func (c *connection) batch(edit M, header ...M) {
	claims := M{"iss": issuer, "iat": float64(c.iat.UnixMilli()) / 1e3, "epoch": "e", "after": 0, "seq": 0}
	c.event(revocation.BatchEvent, key.Token(merged(claims, edit), append([]M{{"typ": revocation.BatchType}}, header...)...))
}

// heartbeat says that the log ends at seq.
func (c *connection) heartbeat(seq int) { c.batch(M{"after": seq, "seq": seq}) }

// snapshot sends entries as a snapshot of one part up to seq.
func (c *connection) snapshot(seq int, entries ...any) {
	c.batch(M{"seq": seq, "snapshot": 1, "last": true, "entries": entries})
}

// set sends one revocation with the number seq.
func (c *connection) set(seq int, entry any, edits ...M) {
	now := float64(time.Now().UnixMilli()) / 1e3
	claims := M{
		"iss": issuer, "jti": fmt.Sprint(seq), "iat": now, "toe": now, "epoch": "e", "after": seq - 1, "seq": seq, "entry": entry,
		"sub_id": M{"format": "opaque", "id": "x"}, "events": M{revocation.SessionRevoked: M{"event_timestamp": now, "initiating_entity": "admin"}},
	}
	c.event(revocation.SetEvent, key.Token(merged(claims, edits...), M{"typ": revocation.SetType}))
}

func merged(into M, edits ...M) M {
	for _, edit := range edits {
		for name, value := range edit {
			if into[name] = value; value == nil {
				delete(into, name)
			}
		}
	}
	return into
}

// token returns the entry that revokes a token by its jti.
func token(jti string) revocation.Entry {
	sum := sha256.Sum256([]byte(jti))
	return revocation.Entry{Kind: revocation.Token, Subject: string(sum[:]), Until: time.Now().Add(time.Hour).Truncate(time.Second)}
}

func application(id string) revocation.Entry {
	return revocation.Entry{Kind: revocation.Application, Subject: id, IssuedBy: time.Now().Truncate(time.Second)}
}

// A gate is a gate that follows the feed of an issuerServer.
type gate struct {
	*Subscriber
	t        testing.TB
	lease    *reuse.Lease
	log      gatetest.Log
	registry *prometheus.Registry
	rules    *revocation.Rules
}

// gateOptions say how follow makes a gate.
type gateOptions struct {
	pool    *reuse.Pool
	edit    func(*config.Revocations)
	server  func(*config.AuthorizationServer)
	timing  func(*timing)
	now     func() time.Time
	metrics *Metrics // of another gate in the same process; nil: the gate has its own
	stopped bool     // the caller starts the gate
}

// open returns a gate for the feed of s, with short pauses.
func (s *issuerServer) open(t testing.TB, o gateOptions) *gate {
	t.Helper()
	path := func(name string) config.Path { return config.Path(filepath.Join(s.dir, name)) }
	server := gatetest.AuthorizationServer(func(c *config.AuthorizationServer) {
		c.Connection = config.Connection{Trust: []config.Path{path("ca.pem")}, Certificate: config.KeyPair{Certificate: path("gate.pem"), Key: path("gate-key.pem")}}
		c.KeySet.URL = gatetest.URL(t, s.URL+"/jwks")
	})
	if o.server != nil {
		o.server(&server)
	}
	settings := config.Revocations{
		Server: server.Name, Feeds: []config.URL{*gatetest.URL(t, s.URL+"/revocations")}, ClientID: "orders-gate",
		MaxStaleness: 30 * time.Second, WhenStale: config.RefuseRevocationsStale,
	}
	if o.edit != nil {
		o.edit(&settings)
	}
	if o.now == nil {
		o.now = time.Now
	}
	cfg := &config.Config{AuthorizationServers: []config.AuthorizationServer{server}, Revocations: &settings}
	g := &gate{t: t, lease: o.pool.Lease(), registry: prometheus.NewRegistry(), rules: revocation.NewRules(cfg, server.Issuer)}
	t.Cleanup(func() { g.lease.Release() })
	logger := slog.New(slog.NewJSONHandler(&g.log, nil))
	remote, err := authserver.New(server, authserver.Options{Log: logger, Metrics: authserver.NewMetrics(nil), Now: time.Now, Lease: g.lease})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jwks.New(server, jwks.Options{Remote: remote, Log: logger, Metrics: jwks.NewMetrics(nil), Now: time.Now, Lease: g.lease})
	if err != nil {
		t.Fatal(err)
	}
	if o.metrics == nil {
		o.metrics = NewMetrics(g.registry)
	}
	g.Subscriber, err = New(cfg, Options{Server: remote, Keys: keys, Log: logger, Metrics: o.metrics, Now: o.now, Lease: g.lease})
	if err != nil {
		t.Fatal(err)
	}
	if !s.opened[g.Subscriber] { // a Subscriber that runs already keeps its timing
		s.opened[g.Subscriber] = true
		g.timing.pause = func(int) time.Duration { return 5 * time.Millisecond }
		if o.timing != nil {
			o.timing(&g.timing)
		}
	}
	keys.Start()
	if !o.stopped {
		g.Start()
	}
	return g
}

// follow returns a started gate with the usual settings.
func (s *issuerServer) follow(t testing.TB) *gate {
	t.Helper()
	return s.open(t, gateOptions{})
}

// current waits until the gate knows all revocations.
func (g *gate) current() {
	g.t.Helper()
	gatetest.Eventually(g.t, "current revocations", func() bool { return g.Current() == nil })
}

// refuses waits until the gate refuses the token with a jti.
func (g *gate) refuses(jti string) {
	g.t.Helper()
	gatetest.Eventually(g.t, "the revocation of "+jti, func() bool { return g.revoked(jti) })
}

func (g *gate) revoked(jti string) bool {
	return g.rules.Revoked(g.Set(), &access.Unchecked{Issuer: issuer, TokenID: jti}, time.Now())
}

// lost waits for a log line about a lost stream with a cause.
func (g *gate) lost(cause string) {
	g.t.Helper()
	gatetest.Eventually(g.t, "the end of a stream because "+cause, func() bool {
		failure := g.Status().Failure
		return failure != nil && strings.Contains(failure.Error(), cause)
	})
}

// count returns the messages with a result.
func (g *gate) count(result string) float64 {
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "tallygate_revocation_events_total" && m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	g.t.Fatalf("no series of the result %s", result)
	return 0
}

// testpkiSigner returns another key of the issuer.
func testpkiSigner() *testpki.Signer { return testpki.NewSigner("ES256", "k2") }

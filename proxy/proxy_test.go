package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/limits"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/upstream"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/policy"
	"github.com/tallygate/tallygate/validate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const settings = `
listener:
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
authorization_servers:
  - {name: partners, issuer: "https://as.example.test", audiences: [https://api.example.test], key_set: {file: keys.json}}
apis:
  - name: accounts
    hosts: [api.example.test]
    upstream: {url: "%s"}
    routes:
      - {methods: [GET, POST], path: "/accounts/{id}", scopes: [accounts:read]}
partners:
  list:
    - name: northwind
      trust: [northwind-ca.pem]
      applications: [{client_id: northwind-ledger, apis: [accounts]}]
log: {granted: all}
`

// A harness is the handler with its real parts, and the credentials of a good client.
type harness struct {
	dir      string
	cfg      *config.Config
	proxy    *Proxy
	current  atomic.Pointer[Proxy] // the Proxy that decides about open streams
	pool     reuse.Pool
	lease    *reuse.Lease // the lease of the current Proxy
	revoked  atomic.Bool  // every token is revoked
	ahead    atomic.Int64 // how far the clock of the checks is ahead, a time.Duration
	streams  *Streams
	metrics  *accesslog.Metrics
	tokens   *validate.Metrics
	log      *slog.Logger
	registry *prometheus.Registry
	trust    *mtls.Trust
	server   *testpki.Pair
	ca       *testpki.Pair
	client   *testpki.Pair
	signer   *testpki.Signer
	proving  *testpki.Signer // the client's DPoP key; nil without
	token    string
}

func newHarness(t testing.TB, upstream string, log io.Writer, edits ...func(*config.Config)) *harness {
	t.Helper()
	dir := t.TempDir()
	ca, signer := testpki.NewCA("Northwind Root"), testpki.NewSigner("ES256", "k1")
	ca.Write(dir, "northwind-ca")
	s := &harness{
		dir: dir, registry: prometheus.NewPedanticRegistry(), ca: ca, signer: signer, log: slog.New(slog.NewJSONHandler(log, nil)),
		client: ca.Leaf("ledger"), server: testpki.SelfSigned("gate", testpki.DNS("api.example.test"), testpki.IP("127.0.0.1")),
	}
	for name, content := range map[string][]byte{
		"keys.json": testpki.KeySet(signer), "gate.yaml": fmt.Appendf(nil, settings, upstream),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.tokens = validate.NewMetrics(s.registry)
	s.metrics = accesslog.NewMetrics(s.registry)
	s.streams = NewStreams(s.current.Load)
	s.streams.recheckInterval, s.streams.forceCloseInterval = 40*time.Millisecond, 20*time.Millisecond
	s.lease = s.pool.Lease()
	s.proxy = s.next(t, edits...)
	s.trust, s.cfg = s.proxy.checks.Trust, s.configure(t, edits...)
	s.token = s.mint(s.client, nil)
	return s
}

// inFlight returns the number of slots that northwind uses: the least number of free slots with which it gets
// another slot.
func (s *harness) inFlight() int64 {
	const most = 1000
	for left := range int64(most) {
		var slots limits.Slots
		d := access.Decision{Reason: access.Granted, API: "accounts", Partner: "northwind"}
		s.proxy.limits.Admit(&d, left, &slots)
		slots.Release("northwind")
		if d.Reason == access.Granted {
			return left
		}
	}
	return most
}

// configure returns the configuration with edits.
func (s *harness) configure(t testing.TB, edits ...func(*config.Config)) *config.Config {
	t.Helper()
	cfg, err := config.Load(filepath.Join(s.dir, "gate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range edits {
		edit(cfg)
	}
	return cfg
}

// next replaces the current Proxy by a Proxy for the configuration with edits, as a reload does.
func (s *harness) next(t testing.TB, edits ...func(*config.Config)) *Proxy {
	t.Helper()
	cfg, lease := s.configure(t, edits...), s.pool.Lease()
	trust, err := mtls.LoadTrust(cfg, mtls.Options{Previous: s.trust, Now: s.now})
	if err != nil {
		t.Fatal(err)
	}
	table := policy.New(cfg, policy.Certificates{Anchors: trust.Anchors()})
	validator, err := validate.New(cfg.AuthorizationServers, validate.Options{
		Lease: lease, Log: s.log, Metrics: s.tokens,
		Revoked: func(*access.Unchecked) (validate.RevocationStatus, error) {
			return validate.StatusOf(s.revoked.Load(), nil)
		},
		Now: s.now, DPoP: dpopOf(cfg), Renewed: table.Renewed,
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(cfg, authorize.New(cfg, trust, validator, table),
		Options{Log: s.log, Metrics: s.metrics, Lease: lease, Streams: s.streams})
	if err != nil {
		t.Fatal(err)
	}
	s.current.Store(p)
	s.lease.Release()
	s.lease = lease
	t.Cleanup(lease.Release)
	return p
}

// dpopOf returns the settings of proofs, nil if no API takes them.
func dpopOf(cfg *config.Config) *config.DPoP {
	if !cfg.TakesDPoP() {
		return nil
	}
	return &cfg.DPoP
}

// now returns the time of the checks of tokens and certificates.
func (s *harness) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// mint returns a token bound to pair with edits of its claims.
func (s *harness) mint(pair *testpki.Pair, edits testpki.M) string {
	return s.signer.Token(testpki.Bound("https://as.example.test", "https://api.example.test", "northwind-ledger", pair, testpki.M{"scope": "accounts:read"}, edits))
}

// request returns a good request as net/http's server makes it.
func (s *harness) request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/accounts/7?a=b", nil)
	r.Host = "api.example.test"
	r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{s.client.Cert}}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "ledger/1.0")
	return r
}

func (s *harness) clientConfig(protocol string) *tls.Config {
	roots := testpki.Pool(s.server)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{s.client.TLS()}, NextProtos: []string{protocol}}
}

// TestPanicRefuses checks that a panic is a refusal: 500, undecided, one log line, one count, and no text
// of the panic.
func TestPanicRefuses(t *testing.T) {
	var log bytes.Buffer
	s := newHarness(t, "http://127.0.0.1:1", &log)
	s.proxy.checks.Table = nil // a nil table makes the handler panic, as a bug would
	w := httptest.NewRecorder()
	s.proxy.ServeHTTP(w, s.request())
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), `"reason":"undecided"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), "nil pointer") {
		t.Error("the response contains the panic's value")
	}
	if n := strings.Count(log.String(), `"msg":"request"`); n != 1 || !strings.Contains(log.String(), `"msg":"panic"`) {
		t.Errorf("got %d request lines, want 1:\n%s", n, &log)
	}
	if strings.Contains(log.String(), s.token) {
		t.Error("the log contains the token")
	}
	if n := s.metric(t, `tallygate_decisions_total{api="none",decision="error",partner="unknown",reason="undecided"}`); n != 1 {
		t.Errorf("decisions with undecided = %v, want 1", n)
	}
}

// TestClientThatLeaves checks that a leaving client gives 499 in log and metric, and neither 502 nor the
// 200 that net/http sends after a handler without a response.
func TestClientThatLeaves(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	defer upstream.Close()
	defer close(release)
	log := &gatetest.Log{}
	s := newHarness(t, upstream.URL, log)
	address := s.listen(t)
	conn, err := tls.Dial("tcp", address, s.clientConfig("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+s.token+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := conn.CloseWrite(); err != nil { // sends the end of its stream, and continues to read
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || len(answer) > 0 {
		t.Errorf("client that left got %q, %v", answer, err)
	}
	if line := log.Wait(t, `"msg":"request"`); !strings.Contains(line, `"status":499`) || !strings.Contains(line, `"failure":"client_closed"`) {
		t.Errorf("log line = %s", line)
	}
	for kind, want := range map[string]float64{"client_closed": 1, "upstream_reset": 0} {
		if n := s.metric(t, fmt.Sprintf(`tallygate_upstream_errors_total{api="accounts",reason=%q}`, kind)); n != want {
			t.Errorf("failures with %s = %v, want %v", kind, n, want)
		}
	}
}

// After an upstream has answered without reading the body, the transport still reads the body on its own
// goroutine while the handler returns and the stream ends. It must not touch the finished exchange: a
// panic on that goroutine would end the process.
func TestBodyThatOutlivesTheHandler(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusForbidden)
	}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, io.Discard)
	address := s.listen(t)
	for _, protocol := range []string{"h2", "http/1.1"} {
		transport := &http.Transport{TLSClientConfig: s.clientConfig(protocol), ForceAttemptHTTP2: protocol == "h2"}
		defer transport.CloseIdleConnections()
		var streams errgroup.Group
		streams.SetLimit(32)
		for range 300 {
			streams.Go(func() error {
				body, rest := io.Pipe()
				defer func() { _ = rest.Close() }()
				go func() { _, _ = rest.Write([]byte("a beginning")) }()
				r, err := http.NewRequest(http.MethodPost, "https://"+address+"/accounts/7", body)
				if err != nil {
					return err
				}
				r.Host = "api.example.test"
				r.Header.Set("Authorization", "Bearer "+s.token)
				answer, err := transport.RoundTrip(r)
				if err != nil {
					return fmt.Errorf("no early answer: %w", err)
				}
				if answer.StatusCode != http.StatusForbidden || protocol == "http/1.1" && !answer.Close {
					return fmt.Errorf("got %s, closing %v", answer.Status, answer.Close)
				}
				_, err = io.Copy(io.Discard, answer.Body)
				return errors.Join(err, answer.Body.Close())
			})
		}
		if err := streams.Wait(); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

// A client that sends no body gets an early response of the upstream or a refusal at once, and its
// connection is closed.
func TestBodyThatNeverComes(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "an early answer")
	}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, io.Discard)
	address := s.listen(t)
	tests := []struct{ name, path, framing, answer string }{
		{"early answer, declared body", "/accounts/7", "Content-Length: 100\r\n\r\nabc", "an early answer"},
		{"early answer, chunks", "/accounts/7", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "an early answer"},
		{"refused, declared body", "/nowhere", "Content-Length: 100\r\n\r\nabc", "api_not_allowed"},
		{"refused, chunks", "/nowhere", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "api_not_allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", address, s.clientConfig("http/1.1"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, err = io.WriteString(conn, "POST "+tt.path+" HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+s.token+"\r\n"+tt.framing)
			if err != nil {
				t.Fatal(err)
			}
			// The limit is well below the stall timeout of 30 s, so the stall timeout cannot be the reason for the end.
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			received, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("the connection stays open: %v", err)
			}
			if !strings.HasPrefix(string(received), "HTTP/1.1 403 ") || !strings.Contains(string(received), tt.answer) {
				t.Errorf("got %q", received)
			}
		})
	}
}

// A client that sends its whole body before it reads gets the refusal: the connection is not reset. The
// client has half a second, so the test repeats on a slow machine; a gate that resets the connection
// fails each time.
func TestRefusedUploadIsNotReset(t *testing.T) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard)
	address := s.listen(t)
	upload := func() error {
		conn, err := tls.Dial("tcp", address, s.clientConfig("http/1.1"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, "POST /nowhere HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+s.token+"\r\nContent-Length: 100000\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // by now the gate has answered
		for range 10 {
			if _, err := io.WriteString(conn, strings.Repeat("x", 10_000)); err != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond) // a reset would arrive
		}
		received, err := io.ReadAll(conn)
		if !strings.Contains(string(received), "api_not_allowed") {
			return fmt.Errorf("answered %q: %w", received, err)
		}
		return nil
	}
	var err error
	for range 3 {
		if err = upload(); err == nil {
			return
		}
	}
	t.Error(err)
}

// A connection stays open after a body that was read to its end, and is closed after the unread body of
// a refused request.
func TestConnectionsAreKept(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, io.Discard)
	address := s.listen(t)
	transport := &http.Transport{TLSClientConfig: s.clientConfig("http/1.1")}
	defer transport.CloseIdleConnections()
	tests := []struct {
		name, path string
		body       func() io.Reader
		length     int64
		status     int
		kept       bool
	}{
		{"no body", "/accounts/7", func() io.Reader { return http.NoBody }, 0, http.StatusOK, true},
		{"a declared body", "/accounts/7", func() io.Reader { return strings.NewReader("hello") }, 5, http.StatusOK, true},
		{"a large one", "/accounts/7", func() io.Reader { return strings.NewReader(strings.Repeat("x", 1<<20)) }, 1 << 20, http.StatusOK, true},
		{"chunks", "/accounts/7", func() io.Reader { return strings.NewReader(strings.Repeat("x", 100_000)) }, -1, http.StatusOK, true},
		{"refused without a body", "/nowhere", func() io.Reader { return http.NoBody }, 0, http.StatusForbidden, true},
		{"refused with one", "/nowhere", func() io.Reader { return strings.NewReader("hello") }, 5, http.StatusForbidden, false},
	}
	for _, tt := range tests {
		for range 20 { // the order of the body's end and the answer must not matter
			r, err := http.NewRequest(http.MethodPost, "https://"+address+tt.path, tt.body())
			if err != nil {
				t.Fatal(err)
			}
			r.Host, r.ContentLength = "api.example.test", tt.length
			r.Header.Set("Authorization", "Bearer "+s.token)
			answer, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != tt.status || answer.Close == tt.kept {
				t.Fatalf("%s: %s, closing %v", tt.name, answer.Status, answer.Close)
			}
		}
	}
}

// T-TLS-23: an upstream with an untrusted certificate gets no request.
func TestUntrustedUpstream(t *testing.T) {
	reached := false
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	upstream.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	upstream.StartTLS()
	defer upstream.Close()
	var log bytes.Buffer
	s := newHarness(t, upstream.URL, &log)
	w := httptest.NewRecorder()
	s.proxy.ServeHTTP(w, s.request())
	if w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), `"reason":"upstream_tls"`) || reached {
		t.Errorf("got %d %s, request reached the upstream: %v", w.Code, w.Body, reached)
	}
	if strings.Contains(w.Body.String(), "x509") || strings.Contains(w.Body.String(), "127.0.0.1") {
		t.Errorf("the response contains details of the failure: %s", w.Body)
	}
}

// T-DOS-06: the transport ignores proxy settings of the environment, and all its limits are set.
func TestUpstreamTransport(t *testing.T) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard)
	c := s.proxy.upstreams["accounts"].RoundTripper.(*upstream.Client)
	if c.HandshakeTimeout == 0 || c.HeaderTimeout == 0 || c.MaxIdle == 0 || c.BodyWait == 0 || c.IdleTimeout == 0 {
		t.Errorf("upstream.Client without a limit: %+v", c)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard)
	mtls.NewHandshakes(s.registry)
	s.proxy.ServeHTTP(httptest.NewRecorder(), s.request())
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("GatherAndLint returned %v, %v", problems, err)
	}
}

// A zero access.Decision is a refusal.
func TestZeroDecisionIsAnswered(t *testing.T) {
	w := httptest.NewRecorder()
	s := newHarness(t, "http://127.0.0.1:1", io.Discard)
	s.proxy.newExchange(w, s.request()).refuse(access.Decision{}, true)
	if w.Code != http.StatusInternalServerError {
		t.Errorf("got %d, want 500", w.Code)
	}
}

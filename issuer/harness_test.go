package issuer_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/validate"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		testpostgres.Stop()
		os.Exit(code)
	}))
}

const (
	audience = "https://api.example.com"
	payments = "https://payments.example.com"
	lifetime = 5 * time.Minute
)

// Two of the authorities have the same name and different keys.
var (
	northCA    = testpki.NewCA("Northwind CA")
	southCA    = testpki.NewCA("Southridge CA")
	imposterCA = testpki.NewCA("Northwind CA")

	operationsCA = testpki.NewCA("Operations CA")
)

// Client certificates for more than one test.
var (
	ledger   = northCA.Leaf("ledger", testpki.DNS("ledger.northwind.example"))
	archive  = northCA.Leaf("archive", testpki.DNS("archive.northwind.example"))
	payroll  = southCA.Leaf("payroll", testpki.DNS("payroll.southridge.example"))
	accounts = northCA.Leaf("accounts-api", testpki.DNS("accounts.internal"))
	paying   = northCA.Leaf("payments-api", testpki.DNS("payments.internal"))
	shutdown = southCA.Leaf("shut", testpki.DNS("app.shut.example"))
)

// A harness runs an issuer on a real mutual-TLS socket.
type harness struct {
	t          *testing.T
	issuer     *issuer.Issuer
	pool       reuse.Pool
	identifier string
	url        string // scheme and host
	key        *testpki.Pair
	keyFile    string
	state      string // folder
	metrics    *prometheus.Registry
	clock      atomic.Int64 // added to the time, ns

	// certificate replaces checkCertificate if it is set before the first request.
	certificate func(*http.Request) (*access.Certificate, error)

	latest     atomic.Pointer[issuer.Issuer] // the issuer after the last reload
	configured *config.Config
	options    issuer.Options

	mu      sync.Mutex
	log     bytes.Buffer
	secrets []string // strings that must not be in the log
}

// sameIssuer returns an edit for several harnesses. It gives each the state, the keys and the identifier of
// the first, like a restart.
func sameIssuer() func(*config.Config) {
	var first *config.Issuer
	return func(cfg *config.Config) {
		if first == nil {
			first = new(*cfg.Issuer)
		}
		cfg.Issuer.State, cfg.Issuer.Signing, cfg.Issuer.Issuer = first.State, first.Signing, first.Issuer
	}
}

// gate returns a Validator that trusts the issuer and runs in the same process. It has the clock of s.
func (s *harness) gate(settings config.AuthorizationServer, edits ...func(*validate.Options)) *validate.Validator {
	s.t.Helper()
	identifier := config.Identifier(s.identifier)
	settings.Name, settings.Issuer, settings.Audiences = "ours", identifier, []string{audience}
	options := validate.Options{
		Local: map[config.Identifier]validate.LocalIssuer{identifier: {KeySet: s.issuer.KeySet, Introspect: s.issuer.Resolve}},
		Revoked: func(token *access.Unchecked) (validate.RevocationStatus, error) {
			return validate.StatusOf(s.issuer.Revoked(*token))
		},
		Lease: new(reuse.Pool).Lease(),
		Now:   func() time.Time { return time.Now().Add(time.Duration(s.clock.Load())) },
	}
	for _, edit := range edits {
		edit(&options)
	}
	v, err := validate.New([]config.AuthorizationServer{settings}, options)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// newHarness starts an issuer whose identifier has this path, with two enabled partners, a
// disabled partner and a partner without anchors.
func newHarness(t *testing.T, path string, edits ...func(*config.Config)) *harness {
	t.Helper()
	s := &harness{t: t, key: testpki.NewCA("signing"), metrics: prometheus.NewRegistry()}
	s.certificate = checkCertificate
	_, s.keyFile = s.key.Write(t.TempDir(), "signing")

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.issuer.ServeHTTP(w, r) }))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{northCA.Leaf("as", testpki.IP("127.0.0.1")).TLS()},
		ClientAuth:   tls.RequestClientCert,
	}
	server.EnableHTTP2 = true
	s.url = "https://" + server.Listener.Addr().String()
	s.identifier = s.url + path

	cfg := &config.Config{
		DPoP: config.Default().DPoP,
		Issuer: &config.Issuer{
			Issuer:           config.Identifier(s.identifier),
			State:            config.Path(t.TempDir()),
			Signing:          config.Signing{Algorithm: config.ES256, Files: []config.Path{config.Path(s.keyFile)}},
			Audience:         audience,
			Resources:        []string{payments},
			TokenLifetime:    lifetime,
			MaxTokenLifetime: time.Hour,
			ResourceServers: []config.ResourceServer{
				{ClientID: "accounts-api", Authentication: config.TLSClientAuth, Resources: []string{audience},
					Certificate: config.RegisteredCertificate{SANDNS: "accounts.internal"}},
				{ClientID: "payments-api", Authentication: config.TLSClientAuth, Resources: []string{payments},
					Certificate: config.RegisteredCertificate{SANDNS: "payments.internal"}},
			},
			Limits: config.IssuerLimits{
				PerClient:  config.Rate{RequestsPerSecond: 1_000_000, Burst: 1_000_000},
				PerAddress: config.Rate{RequestsPerSecond: 1_000_000, Burst: 1_000_000},
			},
		},
		Partners: config.Partners{List: []config.Partner{
			{Name: "northwind", Applications: []config.Application{
				app("northwind-ledger", "ledger.northwind.example", "accounts:read", "accounts:write"),
				app("northwind-archive", "archive.northwind.example"),
				{ClientID: "northwind-pinned", Authentication: config.TLSClientAuth, Certificate: config.RegisteredCertificate{
					Thumbprints: []access.Thumbprint{sha256.Sum256(ledger.Cert.Raw)}}},
				{ClientID: "northwind-method", Certificate: config.RegisteredCertificate{SANDNS: "ledger.northwind.example"}},
			}},
			{Name: "southridge", Applications: []config.Application{app("southridge-payroll", "payroll.southridge.example", "payments:write")}},
			{Name: "shut", Disabled: true, Applications: []config.Application{app("shut-app", "app.shut.example")}},
			{Name: "rootless", Applications: []config.Application{app("rootless-app", "app.rootless.example")}},
		}},
	}
	for _, edit := range edits {
		edit(cfg)
	}
	s.state = string(cfg.Issuer.State)
	var err error
	s.options = issuer.Options{
		Anchors: map[config.Name][]access.AnchorKey{
			"northwind": {anchor(northCA.Cert)}, "southridge": {anchor(southCA.Cert)}, "shut": {anchor(southCA.Cert)},
		},
		ResourceServerAnchors: map[config.ClientID][]access.AnchorKey{
			"accounts-api": {anchor(northCA.Cert)}, "payments-api": {anchor(northCA.Cert)}, "orders-gate": {anchor(northCA.Cert)},
		},
		OperatorAnchors: make(map[config.Name][]access.AnchorKey),
		Certificate:     func(r *http.Request) (*access.Certificate, error) { return s.certificate(r) },
		Log:             slog.New(slog.NewJSONHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics:         s.metrics,
		Current:         s.latest.Load,
		Lease:           s.pool.Lease(),
		Now:             func() time.Time { return time.Now().Add(time.Duration(s.clock.Load())) },
	}
	for _, o := range cfg.Issuer.Operators {
		s.options.OperatorAnchors[o.Name] = []access.AnchorKey{anchor(operationsCA.Cert)}
	}
	s.configured = cfg
	if s.issuer, err = issuer.New(cfg, s.options); err != nil {
		t.Fatal(err)
	}
	if err := s.issuer.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.latest.Store(s.issuer)
	server.StartTLS()
	t.Cleanup(func() {
		server.Close()
		if err := s.issuer.Close(); err != nil {
			t.Error(err)
		}
		s.noSecrets()
	})
	return s
}

// run runs a subtest that gets the failures of s.
func (s *harness) run(name string, test func(*testing.T)) {
	outer := s.t
	outer.Run(name, func(t *testing.T) {
		s.t = t
		defer func() { s.t = outer }()
		test(t)
	})
}

func app(id config.ClientID, san string, scopes ...config.Scope) config.Application {
	return config.Application{
		ClientID:       id,
		Certificate:    config.RegisteredCertificate{SANDNS: san},
		Authentication: config.TLSClientAuth,
		Scopes:         scopes,
		BoundTokens:    true,
		TokenFormat:    config.JWT,
	}
}

func anchor(cert *x509.Certificate) access.AnchorKey {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// checkCertificate does what the listener does if self-signed certificates are allowed: it
// returns the certificate with the anchors that it chains to, if any.
func checkCertificate(r *http.Request) (*access.Certificate, error) {
	if len(r.TLS.PeerCertificates) == 0 {
		return nil, &access.Denial{Reason: access.NoCertificate}
	}
	leaf := r.TLS.PeerCertificates[0]
	intermediates := x509.NewCertPool()
	for _, c := range r.TLS.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	out := &access.Certificate{Leaf: leaf, Thumbprint: access.ThumbprintOf(leaf)}
	for _, ca := range []*testpki.Pair{northCA, southCA, operationsCA} {
		roots := testpki.Pool(ca)
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err == nil {
			out.Anchors = append(out.Anchors, anchor(ca.Cert))
		}
	}
	return out, nil
}

// An answer is an HTTP response with its body.
type answer struct {
	status int
	header http.Header
	body   string
}

// client returns an HTTP client with pair as its client certificate, or without one if pair is
// nil.
func (s *harness) client(pair *testpki.Pair) *http.Client {
	roots := testpki.Pool(northCA)
	settings := &tls.Config{RootCAs: roots}
	if pair != nil {
		settings.Certificates = []tls.Certificate{pair.TLS()}
	}
	transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// send makes a request on a new connection. A target without a scheme is a path at the issuer.
// header may be nil.
func (s *harness) send(pair *testpki.Pair, method, target string, header http.Header, body string) answer {
	s.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = s.url + target
	}
	c := s.client(pair)
	defer c.CloseIdleConnections()
	return s.sendBy(c, method, target, header, body)
}

func (s *harness) sendBy(c *http.Client, method, target string, header http.Header, body string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	response, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	response.Header.Del("Date")
	return answer{response.StatusCode, response.Header, string(content)}
}

var form = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}

// ask requests a token.
func (s *harness) ask(pair *testpki.Pair, body string) answer {
	s.t.Helper()
	return s.send(pair, "POST", "/token", form.Clone(), body)
}

// revoke requests a revocation.
func (s *harness) revoke(pair *testpki.Pair, body string) answer {
	s.t.Helper()
	return s.send(pair, "POST", "/revoke", form.Clone(), body)
}

// A granted response is a token response.
type granted struct {
	Token     string `json:"access_token"`
	Type      string `json:"token_type"`
	ExpiresIn int    `json:"expires_in"`
	Scope     string `json:"scope"`
}

// fetched decodes a token response, opaque or JWT. The token must not be in the log from then
// on.
func (s *harness) fetched(a answer) granted {
	s.t.Helper()
	var g granted
	decodeExactly(s.t, a.body, &g)
	if a.status != http.StatusOK || g.Token == "" {
		s.t.Fatalf("token request: got %d %s, want 200 and a token", a.status, a.body)
	}
	s.neverStored(a)
	s.secret(g.Token)
	return g
}

func split(token string) []string { return strings.Split(token, ".") }

// granted decodes a token response with a JWT and verifies it. The token and its jti must not be
// in the log from then on.
func (s *harness) granted(a answer) granted {
	s.t.Helper()
	g := s.fetched(a)
	s.secret(s.verify(g.Token).ID)
	return g
}

// token fetches a token for the ledger.
func (s *harness) token() granted {
	s.t.Helper()
	return s.granted(s.ask(ledger, "grant_type=client_credentials&client_id=northwind-ledger"))
}

// The whole error responses of the endpoints.
var answers = map[string]struct {
	status int
	body   string
}{
	"server_error":           {500, `{"error":"server_error","error_description":"The authorization server could not handle the request."}`},
	"invalid_request":        {400, `{"error":"invalid_request","error_description":"The request lacks a parameter, repeats one, authenticates the client in another way than by its certificate, or is not a form in the body of a POST request."}`},
	"invalid_client":         {401, `{"error":"invalid_client","error_description":"The client is unknown, or the client certificate of the connection is not the one registered for it."}`},
	"invalid_grant":          {400, `{"error":"invalid_grant","error_description":"The token was issued to another client."}`},
	"invalid_scope":          {400, `{"error":"invalid_scope","error_description":"A requested scope is malformed or not registered for this client."}`},
	"unsupported_grant_type": {400, `{"error":"unsupported_grant_type","error_description":"The grant type is not client_credentials."}`},
	"temporarily_unavailable": {503,
		`{"error":"temporarily_unavailable","error_description":"The request cannot be handled now; try again later."}`},
	"invalid_target":      {400, `{"error":"invalid_target","error_description":"A requested resource is unknown, malformed or not open to this client."}`},
	"not_subscriber":      {403, `{"error":"unauthorized_client","error_description":"The client may not subscribe to the feed of revocations."}`},
	"unauthorized_client": {400, `{"error":"unauthorized_client","error_description":"The client may not use this grant type."}`},
	"invalid_dpop_proof":  {400, `{"error":"invalid_dpop_proof","error_description":"The DPoP proof is malformed, expired, or made for another request."}`},
	"access_denied":       {400, `{"error":"access_denied","error_description":"A rule of the authorization server refuses the request."}`},
	"too_many_requests":   {429, `{"error":"temporarily_unavailable","error_description":"Too many requests; try again later."}`},
	"too_many_tokens":     {429, `{"error":"temporarily_unavailable","error_description":"The client holds as many unexpired tokens as it may; use them again, or wait until some have expired."}`},
	"not_found":           {404, `{"error":"not_found","error_description":"There is no such endpoint."}`},
	"method_not_allowed":  {405, `{"error":"method_not_allowed","error_description":"The endpoint does not offer this method."}`},

	"insufficient_permission": {403, `{"error":"insufficient_permission","error_description":"The operator lacks the permission for this."}`},
	"malformed_operation":     {400, `{"error":"invalid_request","error_description":"The request is not what the endpoint expects: the JSON of a revocation with exactly one of token, application, partner and thumbprint, or the parameters of a list."}`},
	"unknown_application":     {422, `{"error":"unknown_application","error_description":"The issuer's configuration has no application with this client_id."}`},
	"unknown_partner":         {422, `{"error":"unknown_partner","error_description":"The issuer's configuration has no partner with this name."}`},
	"invalid_thumbprint":      {422, `{"error":"invalid_thumbprint","error_description":"The thumbprint is not the SHA-256 of a certificate in base64url."}`},
	"invalid_reason":          {422, `{"error":"invalid_reason","error_description":"The reason is longer than 200 bytes, or not printable text."}`},
}

// refused checks that a is exactly the error response for code.
func (s *harness) refused(a answer, code string) {
	s.t.Helper()
	want := answers[code]
	if a.status != want.status || a.body != want.body+"\n" {
		s.t.Errorf("got response %d %swant %d %s", a.status, a.body, want.status, want.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		s.t.Errorf("Content-Type is %q, want application/json", got)
	}
	s.neverStored(a)
}

// neverStored checks that caches may not store the response (RFC 6749 section 5.1) and pages of
// other origins may not read it.
func (s *harness) neverStored(a answer) {
	s.t.Helper()
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" {
		s.t.Errorf("the response headers are %v, want Cache-Control: no-store and Pragma: no-cache", a.header)
	}
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			s.t.Errorf("the response has %s, want no CORS headers", name)
		}
	}
}

// Write appends a log line.
func (s *harness) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(line)
}

// secret adds strings that must never be in the log.
func (s *harness) secret(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, secrets...)
}

// noSecrets checks that the log has no secret, T-LOG-02.
func (s *harness) noSecrets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range s.secrets {
		if secret == "" || strings.Contains(s.log.String(), secret) {
			s.t.Errorf("the log has the secret %q", secret)
		}
	}
}

// lastLine returns the last line of the log.
func (s *harness) lastLine() map[string]any {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	var line map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		s.t.Fatal(err)
	}
	return line
}

// lines returns the number of lines in the log.
func (s *harness) lines() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.log.String(), "\n")
}

// revoked reports whether the token with this jti is revoked.
func (s *harness) revoked(id string) bool {
	s.t.Helper()
	return isRevoked(s.t, s.issuer, access.Unchecked{Issuer: s.identifier, TokenID: id})
}

// isRevoked is i.Revoked without an error.
func isRevoked(t *testing.T, i *issuer.Issuer, token access.Unchecked) bool {
	t.Helper()
	revoked, err := i.Revoked(token)
	if err != nil {
		t.Error(err)
	}
	return revoked
}

// keySet returns the published key set.
func (s *harness) keySet() string {
	set, _ := s.issuer.KeySet()
	return string(set)
}

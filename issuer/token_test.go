package issuer_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/config"
)

const good = "grant_type=client_credentials&client_id=northwind-ledger"

// RFC 6749 section 5.1, RFC 9068 section 2.2, RFC 8705 section 3.1.
func TestToken(t *testing.T) {
	s := newHarness(t, "")
	before := time.Now().Unix()
	g := s.token()
	after := time.Now().Unix()
	if g.Type != "Bearer" || g.ExpiresIn != 300 || g.Scope != "accounts:read accounts:write" {
		t.Errorf("got response %+v, want a Bearer token for 300 s", g)
	}
	p := s.verify(g.Token)
	if p.IssuedAt < before || p.IssuedAt > after || p.Expires != p.IssuedAt+300 || len(p.ID) != 26 {
		t.Errorf("got iat %d, exp %d, jti %q; want a lifetime of 300 s and a jti of 26 characters", p.IssuedAt, p.Expires, p.ID)
	}
	p.IssuedAt, p.Expires, p.ID = 0, 0, ""
	want := payload{Issuer: s.identifier, Subject: "northwind-ledger", ClientID: "northwind-ledger", Audience: []string{audience},
		Scope: new("accounts:read accounts:write"), Confirmation: map[string]string{"x5t#S256": ledger.Thumbprint()}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	line := s.lastLine()
	if line["client_id"] != "northwind-ledger" || line["partner"] != "northwind" || line["thumbprint"] != ledger.Thumbprint() || len(line["jti_hash"].(string)) != 16 {
		t.Errorf("got log line %v, want the granted request", line)
	}
}

// RFC 6749 section 3.3, T-AS-04.
func TestScopes(t *testing.T) {
	tests := []struct{ name, asked, granted, code string }{
		{"none asked: all", "", "accounts:read accounts:write", ""},
		{"empty is none", "&scope=", "accounts:read accounts:write", ""},
		{"one", "&scope=accounts:read", "accounts:read", ""},
		{"all, in the order asked", "&scope=accounts:write+accounts:read", "accounts:write accounts:read", ""},
		{"one twice", "&scope=accounts:read%20accounts:read", "accounts:read", ""},
		{"not registered", "&scope=payments:write", "", "invalid_scope"},
		{"one of two not registered", "&scope=accounts:read+payments:write", "", "invalid_scope"},
		{"other case", "&scope=Accounts:read", "", "invalid_scope"},
		{"part of one", "&scope=accounts", "", "invalid_scope"},
		{"two spaces", "&scope=accounts:read++accounts:write", "", "invalid_scope"},
		{"space at the end", "&scope=accounts:read+", "", "invalid_scope"},
		{"space alone", "&scope=+", "", "invalid_scope"},
		{"tab between", "&scope=accounts:read%09accounts:write", "", "invalid_scope"},
		{"comma between", "&scope=accounts:read,accounts:write", "", "invalid_scope"},
		{"null byte", "&scope=accounts:read%00", "", "invalid_scope"},
	}
	s := newHarness(t, "")
	for _, test := range tests {
		s.run(test.name, func(t *testing.T) {
			a := s.ask(ledger, good+test.asked)
			if test.code != "" {
				s.refused(a, test.code)
				return
			}
			g := s.granted(a)
			if p := s.verify(g.Token); g.Scope != test.granted || p.Scope == nil || *p.Scope != test.granted {
				t.Errorf("got scope %q, in the token %v; want %q in both", g.Scope, p.Scope, test.granted)
			}
		})
	}
	s.run("none registered", func(t *testing.T) {
		a := s.ask(archive, "grant_type=client_credentials&client_id=northwind-archive")
		if p := s.verify(s.granted(a).Token); p.Scope != nil || strings.Contains(a.body, "scope") {
			t.Errorf("the token has scope %v, the response is %s; want no scope", p.Scope, a.body)
		}
		s.refused(s.ask(archive, "grant_type=client_credentials&client_id=northwind-archive&scope=accounts:read"), "invalid_scope")
	})
}

// RFC 6749 sections 2.3, 3.2 and 5.2, T-AS-02, T-AS-03, T-AS-04, T-AS-05.
func TestTokenRequests(t *testing.T) {
	h := func(pairs ...string) http.Header {
		out := form.Clone()
		for i := 0; i < len(pairs); i += 2 {
			out.Add(pairs[i], pairs[i+1])
		}
		return out
	}
	contentType := func(types ...string) http.Header { return http.Header{"Content-Type": types} }
	long := good + "&padding=" + strings.Repeat("x", 8<<10-len(good)-len("&padding="))

	tests := []struct {
		name, method, target string
		header               http.Header
		body, want           string // want "" is a token
	}{
		{"good", "POST", "/token", form, good, ""},
		{"media type with a parameter", "POST", "/token", contentType("Application/X-WWW-Form-urlencoded; charset=UTF-8"), good, ""},
		{"unknown parameters", "POST", "/token", form, good + "&audience=x&a=b&%00=c", ""},
		{"parameters without a value", "POST", "/token", form, good + "&client_secret=&client_assertion=&scope", ""},
		{"8 KiB of body", "POST", "/token", form, long, ""},

		{"a byte more", "POST", "/token", form, long + "x", "invalid_request"},
		{"1 MiB of body", "POST", "/token", form, good + "&x=" + strings.Repeat("x", 1<<20), "invalid_request"},
		{"two client_id", "POST", "/token", form, good + "&client_id=northwind-ledger", "invalid_request"},
		{"two client_id, one empty", "POST", "/token", form, good + "&client_id=", "invalid_request"},
		{"two client_id, one escaped", "POST", "/token", form, good + "&client%5fid=southridge-payroll", "invalid_request"},
		{"two scope", "POST", "/token", form, good + "&scope=accounts:read&scope=accounts:write", "invalid_request"},
		{"two grant_type", "POST", "/token", form, good + "&grant_type=client_credentials", "invalid_request"},
		{"two of an unknown parameter", "POST", "/token", form, good + "&a=1&a=2", "invalid_request"},
		{"no grant_type", "POST", "/token", form, "client_id=northwind-ledger", "invalid_request"},
		{"empty grant_type", "POST", "/token", form, "client_id=northwind-ledger&grant_type=", "invalid_request"},
		{"password", "POST", "/token", form, "client_id=northwind-ledger&grant_type=password&username=u&password=p", "unsupported_grant_type"},
		{"other case", "POST", "/token", form, "client_id=northwind-ledger&grant_type=Client_Credentials", "unsupported_grant_type"},
		{"refresh_token", "POST", "/token", form, "client_id=northwind-ledger&grant_type=refresh_token&refresh_token=x", "unsupported_grant_type"},
		{"bad escape", "POST", "/token", form, good + "&a=%zz", "invalid_request"},
		{"semicolons", "POST", "/token", form, "grant_type=client_credentials;client_id=northwind-ledger", "invalid_request"},
		{"empty body", "POST", "/token", form, "", "invalid_client"},
		{"JSON", "POST", "/token", contentType("application/json"), `{"grant_type":"client_credentials"}`, "invalid_request"},
		{"JSON as a form", "POST", "/token", form, `{"grant_type":"client_credentials"}`, "invalid_client"},
		{"no content type", "POST", "/token", http.Header{}, good, "invalid_request"},
		{"two content types", "POST", "/token", contentType(form.Get("Content-Type"), "application/json"), good, "invalid_request"},
		{"multipart", "POST", "/token", contentType("multipart/form-data; boundary=x"), good, "invalid_request"},
		{"bad content type", "POST", "/token", contentType("application/x-www-form-urlencoded;;="), good, "invalid_request"},
		{"parameters in the query", "POST", "/token?" + good, form, "", "invalid_request"},
		{"a parameter in the query", "POST", "/token?scope=accounts:read", form, good, "invalid_request"},
		{"client_secret", "POST", "/token", form, good + "&client_secret=hush-hush", "invalid_request"},
		{"client_assertion", "POST", "/token", form, good + "&client_assertion=hush-hush", "invalid_request"},
		{"Basic", "POST", "/token", h("Authorization", "Basic bm9ydGh3aW5kLWxlZGdlcjpodXNoLWh1c2g="), good, "invalid_request"},
		{"Bearer", "POST", "/token", h("Authorization", "Bearer hush-hush"), good, "invalid_request"},
		{"empty Authorization", "POST", "/token", h("Authorization", ""), good, "invalid_request"},
		{"GET", "GET", "/token", nil, "", "method_not_allowed"},
		{"GET with a query", "GET", "/token?" + good, nil, "", "method_not_allowed"},
		{"PUT", "PUT", "/token", form, good, "method_not_allowed"},
		{"preflight", "OPTIONS", "/token", http.Header{"Origin": {"https://evil.example"}, "Access-Control-Request-Method": {"POST"}}, "", "method_not_allowed"},
		{"method in lower case", "post", "/token", form, good, "method_not_allowed"},
		{"POST to the key set", "POST", "/jwks", form, good, "method_not_allowed"},
		{"slash at the end", "POST", "/token/", form, good, "not_found"},
		{"other case of the path", "POST", "/Token", form, good, "not_found"},
		{"escaped path", "POST", "/%74oken", form, good, "not_found"},
		{"double slash", "POST", "//token", form, good, "not_found"},
		{"root", "GET", "/", nil, "", "not_found"},
		{"introspection", "POST", "/introspection", form, good, "not_found"},
	}
	s := newHarness(t, "")
	s.secret("hush-hush", "bm9ydGh3aW5kLWxlZGdlcjpodXNoLWh1c2g=")
	for _, test := range tests {
		s.run(test.name, func(t *testing.T) {
			a := s.send(ledger, test.method, test.target, test.header.Clone(), test.body)
			if test.want == "" {
				s.granted(a)
				return
			}
			s.refused(a, test.want)
			if allow := a.header.Get("Allow"); (test.want == "method_not_allowed") != (allow == "POST" || allow == "GET") {
				t.Errorf("Allow is %q, want the method of the endpoint", allow)
			}
		})
	}
}

// T-AS-06, over many connections at once.
func TestThousandTokens(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	s := newHarness(t, "")
	const workers, each = 8, 125 // 8 × 125 = 1000
	tokens := make(chan string, workers*each)
	var wg sync.WaitGroup
	for range workers {
		c := s.client(ledger)
		wg.Go(func() {
			for range each {
				tokens <- s.granted(s.sendBy(c, "POST", s.url+"/token", form.Clone(), good)).Token
			}
		})
	}
	wg.Wait()
	close(tokens)
	seen := make(map[string]bool)
	for token := range tokens {
		p := s.verify(token) // checks header and signature too
		if seen[p.ID] || len(p.ID) != 26 || p.Issuer != s.identifier || !cmp.Equal(p.Audience, []string{audience}) ||
			p.ClientID != "northwind-ledger" || p.IssuedAt == 0 || p.Expires != p.IssuedAt+300 ||
			!cmp.Equal(p.Confirmation, map[string]string{"x5t#S256": ledger.Thumbprint()}) {
			t.Fatalf("got claims %+v, want a new jti and the client's binding", p)
		}
		seen[p.ID] = true
	}
	if len(seen) != workers*each {
		t.Errorf("got %d different tokens, want %d", len(seen), workers*each)
	}
	want := `# HELP tallygate_issuer_tokens_issued_total Access tokens issued, by client and binding: x5t#S256, jkt, both or none.
# TYPE tallygate_issuer_tokens_issued_total counter
tallygate_issuer_tokens_issued_total{binding="x5t#S256",client="northwind-ledger"} 1000
`
	if err := testutil.GatherAndCompare(s.metrics, strings.NewReader(want), "tallygate_issuer_tokens_issued_total"); err != nil {
		t.Error(err)
	}
}

// Every error has a series from the start, a client has series after it has authenticated, and
// the names pass the linter.
func TestMetrics(t *testing.T) {
	s := newHarness(t, "")
	s.ask(ledger, good+"&scope=x")
	s.ask(payroll, good)
	s.ask(nil, "grant_type=client_credentials&client_id=nobody")
	s.revoke(nil, "client_id=nobody")
	want := `# HELP tallygate_issuer_introspections_total Introspection requests, by outcome: active, inactive or error.
# TYPE tallygate_issuer_introspections_total counter
tallygate_issuer_introspections_total{outcome="active"} 0
tallygate_issuer_introspections_total{outcome="error"} 0
tallygate_issuer_introspections_total{outcome="inactive"} 0
# HELP tallygate_issuer_token_errors_total Token requests refused, by error code (RFC 6749 section 5.2).
# TYPE tallygate_issuer_token_errors_total counter
tallygate_issuer_token_errors_total{error="access_denied"} 0
tallygate_issuer_token_errors_total{error="invalid_client"} 2
tallygate_issuer_token_errors_total{error="invalid_request"} 0
tallygate_issuer_token_errors_total{error="invalid_scope"} 1
tallygate_issuer_token_errors_total{error="invalid_target"} 0
tallygate_issuer_token_errors_total{error="server_error"} 0
tallygate_issuer_token_errors_total{error="temporarily_unavailable"} 0
tallygate_issuer_token_errors_total{error="unauthorized_client"} 0
tallygate_issuer_token_errors_total{error="unsupported_grant_type"} 0
# HELP tallygate_signing_keys_last_reload_successful Whether the last refresh of the issuer's signing keys (reading changed files, rotation) succeeded: 1 or 0.
# TYPE tallygate_signing_keys_last_reload_successful gauge
tallygate_signing_keys_last_reload_successful 1
`
	if err := testutil.GatherAndCompare(s.metrics, strings.NewReader(want),
		"tallygate_issuer_introspections_total", "tallygate_issuer_token_errors_total", "tallygate_issuer_tokens_issued_total", "tallygate_signing_keys_last_reload_successful"); err != nil {
		t.Error(err)
	}
	s.token()
	if problems, err := testutil.GatherAndLint(s.metrics); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// A client_id that is too long to be one is not logged.
func TestLoggedClientID(t *testing.T) {
	s := newHarness(t, "")
	token := s.token().Token
	s.refused(s.ask(ledger, "grant_type=client_credentials&client_id="+token), "invalid_client")
	if _, ok := s.lastLine()["client_id"]; ok {
		t.Error("the log has a token as client_id")
	}
	s.refused(s.ask(ledger, "grant_type=client_credentials&client_id=a%0Ab%1b%ff"), "invalid_client")
	if got := s.lastLine()["client_id"]; got != "a\nb\x1b\ufffd" {
		t.Errorf("the log has client_id %q, want the client_id of the request", got)
	}
}

// T-AS-06: exp follows the configuration and the issuer's clock.
func TestTokenLifetime(t *testing.T) {
	s := newHarness(t, "", func(c *config.Config) { c.Issuer.TokenLifetime = 90 * time.Minute })
	s.clock.Store(int64(1000 * time.Hour))
	g := s.token()
	p := s.verify(g.Token)
	if g.ExpiresIn != 5400 || p.Expires-p.IssuedAt != 5400 || p.IssuedAt < time.Now().Add(999*time.Hour).Unix() {
		t.Errorf("got expires_in %d, iat %d, exp %d; want the configured lifetime", g.ExpiresIn, p.IssuedAt, p.Expires)
	}
}

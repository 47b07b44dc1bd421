package console

import (
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/history"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/introspect"
	"github.com/tallygate/tallygate/validate"
)

var now = time.Date(2026, 11, 30, 3, 0, 30, 0, time.UTC)

const settings = `
listener:
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
  client_certificates: {trust: [ca.pem]}
authorization_servers:
  - name: keycloak
    issuer: https://as.example.test
    audiences: [https://api.example.test]
    key_set: {url: "https://as.example.test/jwks?password=hunter2"}
  - name: appliance
    issuer: https://appliance.example.test
    audiences: [https://api.example.test]
    required: false
    tokens: opaque
    partners: [northwind]
    introspection: {endpoint: "https://appliance.example.test/introspect", client_id: gate, authentication: {method: client_secret_basic, secret_file: secret.txt}}
apis:
  - name: accounts
    hosts: [api.example.test]
    upstream: {url: "http://127.0.0.1:8080"}
    routes:
      - {methods: [GET, DELETE], path: "/accounts/{id}", scopes: [accounts:read]}
  - name: payments
    hosts: [api.example.test, "*.pay.example.test"]
    upstream: {url: "http://127.0.0.1:8081"}
    routes:
      - {methods: [POST], path: /payments, scopes: [payments:write]}
partners:
  list:
    - name: northwind
      applications:
        - client_id: northwind-ledger
          certificate: {san_dns: ledger.northwind.example}
          apis: [accounts, payments]
    - name: borealis
      disabled: true
      applications:
        - client_id: "=cmd|'/C'!A0"
          certificate: {subject_dn: "CN=sync,O=\\<b\\>Borealis\\</b\\>"}
          apis: [{api: accounts, methods: [GET]}]
admin: {console: {}}
`

// A bench is a console with a state that a test changes.
type bench struct {
	t       *testing.T
	state   State
	history *history.History
	handler http.Handler
}

func newBench(t *testing.T, text string) *bench {
	t.Helper()
	cfg, err := config.Parse("/etc/tallygate/tallygate.yaml", "/etc/tallygate", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, history: history.New()}
	b.state = State{
		Config: cfg, File: "/etc/tallygate/tallygate.yaml", Hash: "0123456789ab", Loaded: now.Add(-time.Hour), Started: now.Add(-2 * time.Hour), Version: "v1",
		Certificates: []ListenerCertificate{{Listener: "partners", NotAfter: now.AddDate(0, 3, 0)}},
		AnchorsEnd:   map[config.Name]time.Time{"northwind": now.AddDate(1, 0, 0)},
		Servers:      []validate.ServerStatus{{Name: "keycloak", Required: true, Keys: &jwks.Status{Fetched: true, Keys: 2, At: now.Add(-time.Minute)}}},
		Anchors:      func(*config.Partner) ([]*x509.Certificate, error) { return nil, nil },
		Route: func(method, _, path string) (string, string) {
			if method == "POST" && path == "/payments" {
				return "payments", "/payments"
			}
			return "", ""
		},
	}
	b.handler = New(Source{State: func() *State { s := b.state; return &s }, History: b.history, Port: func() string { return "9091" }, Now: func() time.Time { return now }})
	return b
}

func (b *bench) get(path string, edits ...func(*http.Request)) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "127.0.0.1:9091"
	for _, edit := range edits {
		edit(r)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// page returns the text of a page, which must have status 200.
func (b *bench) page(path string) string {
	b.t.Helper()
	w := b.get(path)
	if w.Code != http.StatusOK {
		b.t.Fatalf("GET %s: status %d, want 200", path, w.Code)
	}
	return w.Body.String()
}

// refuse adds refusals of a partner to the history.
func (b *bench) refuse(partner, reason string, outcome history.Outcome, times int, more ...string) {
	fields := []history.Field{
		{Key: "msg", Value: "request"}, {Key: "partner", Value: partner}, {Key: "reason", Value: reason}, {Key: "api", Value: "accounts"}, {Key: "route", Value: "/accounts/{id}"},
		{Key: "host", Value: "api.example.test"}, {Key: "method", Value: "GET"}, {Key: "status", Value: "401"}, {Key: "request_id", Value: "1f0c"},
	}
	for i := 0; i < len(more); i += 2 {
		fields = append(fields, history.Field{Key: more[i], Value: more[i+1]})
	}
	for range times {
		b.history.Count(partner, history.Key{API: "accounts", Reason: reason, Outcome: outcome}, now)
		b.history.Refuse(partner, history.Kind{Reason: reason, API: "accounts", Route: "/accounts/{id}"}, now, fields)
	}
}

func (b *bench) grant(partner string, times int) {
	for range times {
		b.history.Count(partner, history.Key{API: "accounts", Reason: "granted"}, now)
	}
}

func (b *bench) failHandshakes(times int) {
	for range times {
		b.history.Count("unknown", history.Key{Reason: "gate_certificate_not_trusted", Outcome: history.Handshake}, now)
	}
	b.history.Refuse("unknown", history.Kind{Reason: "gate_certificate_not_trusted"}, now, []history.Field{
		{Key: "msg", Value: "handshake failed"}, {Key: "listener", Value: "partners"}, {Key: "remote", Value: "192.0.2.7:1"}, {Key: "cause", Value: "gate_certificate_not_trusted"},
		{Key: "error", Value: "remote error: tls: unknown certificate authority"}, {Key: "advice", Value: "the client refuses the gate's certificate"},
	})
}

var everyPage = []string{
	"/", "/partners", "/partners?q=north", "/partner?name=northwind", "/partner?name=borealis", "/partner?name=unknown", "/access",
	"/access?method=POST&path=/payments", "/access?path=/nothing", "/servers", "/revocations", "/configuration",
}

func TestGuard(t *testing.T) {
	b := newBench(t, settings)
	set := func(key, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(key, value) }
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	for _, tt := range []struct {
		name   string
		edit   func(*http.Request)
		status int
	}{
		{"own address", host("127.0.0.1:9091"), 200},
		{"another loopback address", host("127.8.8.8:9091"), 200},
		{"localhost", host("LocalHost:9091"), 200},
		{"IPv6", host("[::1]:9091"), 200},
		{"another port", host("127.0.0.1:9090"), 421},
		{"no port", host("127.0.0.1"), 421},
		{"no host", host(""), 421},
		{"a name of the web", host("attacker.example:9091"), 421},
		{"a name below localhost", host("attacker.localhost:9091"), 421},
		{"a name that begins like an address", host("127.0.0.1.attacker.example:9091"), 421},
		{"another address", host("10.0.0.1:9091"), 421},
		{"any address", host("0.0.0.0:9091"), 421},
		{"user information", host("127.0.0.1:9091@attacker.example:9091"), 421},
		{"POST", method("POST"), 405},
		{"DELETE", method("DELETE"), 405},
		{"OPTIONS", method("OPTIONS"), 405},
		{"HEAD", method("HEAD"), 200},
		{"typed address", set("Sec-Fetch-Site", "none"), 200},
		{"own link", set("Sec-Fetch-Site", "same-origin"), 200},
		{"another site", set("Sec-Fetch-Site", "cross-site"), 403},
		{"another port of this machine", set("Sec-Fetch-Site", "same-site"), 403},
		{"two values", func(r *http.Request) { set("Sec-Fetch-Site", "none")(r); set("Sec-Fetch-Site", "cross-site")(r) }, 403},
		{"own origin", set("Origin", "http://127.0.0.1:9091"), 200},
		{"another origin", set("Origin", "http://127.0.0.1:8080"), 403},
		{"an opaque origin", set("Origin", "null"), 403},
	} {
		w := b.get("/", tt.edit)
		if w.Code != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, w.Code, tt.status)
		}
		if tt.status != 200 && strings.Contains(w.Body.String(), "northwind") {
			t.Errorf("%s: the answer names a partner", tt.name)
		}
		for key, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Set-Cookie": "",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := w.Header().Get(key); got != want {
				t.Errorf("%s: %s is %q, want %q", tt.name, key, got, want)
			}
		}
	}
}

// No page has content that the policy forbids, or loads content from another host.
func TestPagesKeepThePolicy(t *testing.T) {
	b := newBench(t, settings)
	b.refuse("northwind", "bound_to_other", history.Refused, 2, "token_partner", "borealis")
	for _, path := range everyPage {
		root, err := html.Parse(strings.NewReader(b.page(path)))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			for _, a := range n.Attr {
				switch {
				case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "src" && !strings.HasPrefix(a.Val, "/assets/"), a.Key == "action" && !strings.HasPrefix(a.Val, "/"):
					t.Errorf("%s: <%s %s=%q>", path, n.Data, a.Key, a.Val)
				}
			}
			if (n.Data == "script" || n.Data == "style") && n.Type == html.ElementNode && n.FirstChild != nil {
				t.Errorf("%s: an inline %s", path, n.Data)
			}
		}
	}
}

// hostile are values that a partner can choose, each with a text that must not stand in a page as it is.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'; alert(1); '`, `</svg><script>alert(1)</script>`, `javascript:alert(1)`, "{{.}}",
	"\u202egnp.exe", "a\x00b\x1b[31m", "</title><script>", "`${alert(1)}`", "=1+1", "@SUM(1)", "-rf", "--include",
}

func TestHostileValues(t *testing.T) {
	b := newBench(t, settings)
	for i, text := range hostile {
		b.history.Refuse("northwind", history.Kind{Reason: "expired", ClientID: fmt.Sprint(i)}, now, []history.Field{
			{Key: "msg", Value: "request"}, {Key: "reason", Value: "expired"}, {Key: "api", Value: text}, {Key: "route", Value: text}, {Key: "host", Value: text},
			{Key: "path", Value: "/" + text}, {Key: "method", Value: text}, {Key: "client_id", Value: text}, {Key: "token_partner", Value: text}, {Key: "application", Value: text},
			{Key: "issuer", Value: text}, {Key: "subject_dn", Value: "CN=" + text}, {Key: "issuer_dn", Value: text}, {Key: "san_uri", Value: text}, {Key: "serial", Value: text},
			{Key: "thumbprint", Value: text}, {Key: "remote", Value: text}, {Key: "request_id", Value: text}, {Key: "error", Value: "exp: want " + text + ", got " + text},
			{Key: "summary", Value: text}, {Key: "not_after", Value: text},
		})
		b.history.Count("northwind", history.Key{API: text, Reason: text, Outcome: history.Refused}, now)
	}
	for i, text := range hostile {
		b.history.See("northwind", text, [32]byte{byte(i)}, now, func() (string, string, time.Time) { return text, text, now })
	}
	b.state.Fault, b.state.Unready = strings.Join(hostile, "\n"), strings.Join(hostile, "\n")
	b.state.Servers[0].Keys.Failure = errors.New(strings.Join(hostile, "\n"))
	b.state.Revocations = hostileRevocations()
	paths := append([]string{"/partners?q=" + "%3Cscript%3Ealert(1)%3C%2Fscript%3E", "/partner?name=%3Cscript%3E", "/access?method=%22%3E%3Cimg+src%3Dx+onerror%3Dalert(1)%3E&path=%22%3E%3Cscript%3E&host=%22%3E%3Cscript%3E"}, everyPage...)
	for _, path := range paths {
		body := b.get(path).Body.String()
		root, err := html.Parse(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			if n.Data == "script" && (len(n.Attr) != 2 || !strings.HasPrefix(n.Attr[0].Val, "/assets/")) || n.Data == "img" && n.Parent.Data != "a" || n.Data == "b" {
				t.Errorf("%s: a value became the element %s", path, n.Data)
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "href" && !regexp.MustCompile(`^(/|#main$|https://github\.com/tallygate/)`).MatchString(a.Val) {
					t.Errorf("%s: a value became the attribute %s=%q", path, a.Key, a.Val)
				}
			}
		}
		for _, raw := range []string{"\u202e", "\x1b", "\x00"} {
			if strings.Contains(body, raw) {
				t.Errorf("%s: has the character %q", path, raw)
			}
		}
	}
	for _, r := range b.history.Refusals("northwind") {
		if got := explainCommand(r.Get("request_id"), "gate.yaml"); got != "" {
			t.Errorf("the command for the request id %q is %q, want none", r.Get("request_id"), got)
		}
	}
	w := b.get("/partner?name=northwind&format=json")
	var twin struct{ Refusals []struct{ Method string } }
	if err := json.Unmarshal(w.Body.Bytes(), &twin); err != nil || len(twin.Refusals) != len(hostile) || strings.Contains(w.Body.String(), "<script>") {
		t.Errorf("the JSON has %d refusals (%v), or a tag as it is, want %d", len(twin.Refusals), err, len(hostile))
	}
}

func TestCSVHasNoFormula(t *testing.T) {
	b := newBench(t, settings)
	w := b.get("/access.csv")
	rows, err := csv.NewReader(w.Body).ReadAll()
	if err != nil || len(rows) != 1+3+1 {
		t.Fatalf("%d rows (%v), want a heading, three permissions of northwind and one of borealis", len(rows), err)
	}
	if got, want := strings.Join(rows[4], ";"), "borealis;true;'=cmd|'/C'!A0;accounts;api.example.test;GET;/accounts/{id};accounts:read;certificate"; got != want {
		t.Errorf("the row of borealis is\n%s, want\n%s", got, want)
	}
	for text, want := range map[string]string{
		"": "", "GET": "GET", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(1)": "'@SUM(1)", "\t=1": "'\t=1", "\r=1": "'\r=1", " =1": "' =1", "|x": "'|x", "*.pay.example.test": "*.pay.example.test",
	} {
		if got := harmless(text); got != want {
			t.Errorf("harmless(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestWhoCanCall(t *testing.T) {
	b := newBench(t, settings)
	for _, tt := range []struct{ path, want, not string }{
		{"/access?method=post&path=payments", "northwind-ledger", "no partner"},
		{"/access?method=POST&path=/payments&host=api.example.test", "1 application may call it", "no partner"},
		{"/access?path=/payments", "No route matches", "may call it"},
		{"/access", "Who can call it?", "may call it"},
	} {
		body := b.page(tt.path)
		answer := body[:strings.Index(body, "Applications and APIs")]
		if !strings.Contains(answer, tt.want) || strings.Contains(answer, tt.not) {
			t.Errorf("%s: want %q and not %q in\n%s", tt.path, tt.want, tt.not, answer)
		}
	}
}

func TestConfigurationHidesSecrets(t *testing.T) {
	b := newBench(t, settings)
	body := b.page("/configuration")
	for _, want := range []string{
		"authorization_servers[0].key_set.url", "https://as.example.test/jwks?…", "tallygate.yaml:9:20", "authorization_servers[1].introspection.authentication.secret_file",
		"/etc/tallygate/secret.txt", "listener.limits.idle_timeout", "2m0s", "2 partners", "default",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, secret := range []string{"hunter2", "northwind-ledger"} {
		if strings.Contains(body, secret) {
			t.Errorf("the page has %q", secret)
		}
	}
	for path, value := range map[string]string{"authorization_servers[0].key_set.jwks": `{"keys":[{"d":"private"}]}`} {
		if got := hide(path, value); strings.Contains(got, "private") {
			t.Errorf("hide(%s) = %q, want the size alone", path, got)
		}
	}
}

// The notices of the overview have the thresholds of the alerts.
func TestNotices(t *testing.T) {
	for _, tt := range []struct {
		name     string
		happens  func(*bench)
		critical int
		text     string // "" if there is nothing to notice
	}{
		{"quiet", func(b *bench) { b.grant("northwind", 100) }, 0, ""},
		{"an expired token", func(b *bench) { b.grant("northwind", 40); b.refuse("northwind", "expired", history.Refused, 2) }, 0, ""},
		{"theft", func(b *bench) { b.refuse("borealis", "bound_to_other", history.Refused, 1) }, 1, "borealis called accounts once in the last hour with a token that is bound to another certificate"},
		{"renewal", func(b *bench) { b.refuse("northwind", "bound_to_previous", history.Refused, 1) }, 0, "northwind has renewed its certificate"},
		{"ten calls that are not allowed", func(b *bench) {
			b.grant("northwind", 100)
			b.refuse("northwind", "api_not_allowed", history.Refused, 10)
		}, 0, ""},
		{"eleven calls that are not allowed", func(b *bench) { b.refuse("northwind", "api_not_allowed", history.Refused, 11) }, 0, "northwind called what it may not call at accounts, 11 times"},
		{"a scanner", func(b *bench) { b.refuse("unknown", "no_certificate", history.Refused, 500) }, 0, ""},
		{"a partner of which much is refused", func(b *bench) { b.grant("northwind", 100); b.refuse("northwind", "expired", history.Refused, 61) }, 0, "of the requests of northwind were refused"},
		{"one failure in a thousand", func(b *bench) {
			b.grant("northwind", 999)
			b.refuse("northwind", "issuer_unavailable", history.Failed, 1)
		}, 0, ""},
		{"failures", func(b *bench) {
			b.grant("northwind", 9)
			b.refuse("northwind", "issuer_unavailable", history.Failed, 1)
		}, 1, "issuer_unavailable: 1 requests to accounts failed"},
		{"failures beside a flood of unknown callers", func(b *bench) {
			b.grant("northwind", 9)
			b.refuse("northwind", "issuer_unavailable", history.Failed, 1)
			b.refuse("unknown", "no_certificate", history.Refused, 5000)
		}, 1, "issuer_unavailable: 1 requests to accounts failed"},
		{"theft at many APIs beside failures", func(b *bench) {
			for i := range 100 {
				b.history.Count("borealis", history.Key{API: fmt.Sprint("api", i), Reason: "bound_to_other", Outcome: history.Refused}, now)
			}
			b.refuse("dunmore", "issuer_unavailable", history.Failed, 5)
		}, mostOfKind + 2, "issuer_unavailable: 5 requests"},
		{"an API that is down", func(b *bench) {
			b.grant("northwind", 1)
			b.refuse("northwind", "upstream_unreachable", history.Failed, 5)
		}, 1, "At fault: the API"},
		{"thirty failed handshakes", func(b *bench) { b.failHandshakes(30) }, 0, ""},
		{"thirty-one failed handshakes", func(b *bench) { b.failHandshakes(31) }, 0, "31 TLS handshakes failed"},
		{"failed handshakes beside many requests", func(b *bench) { b.grant("northwind", 310); b.failHandshakes(31) }, 0, ""},
		{"draining", func(b *bench) { b.state.Draining = true }, 0, "draining"},
		{"not ready", func(b *bench) { b.state.Unready = "no keys" }, 1, "The gate is not ready: no keys"},
		{"a failed reload", func(b *bench) { b.state.Fault, b.state.FaultAt = "tallygate.yaml:3:1: is required", now }, 1, "tallygate.yaml:3:1: is required"},
		{"an expired anchor", func(b *bench) { b.state.AnchorsEnd["northwind"] = now.Add(-time.Second) }, 1, "Anchor of partner northwind: the certificate has expired"},
		{"an expired anchor of a disabled partner", func(b *bench) { b.state.AnchorsEnd["borealis"] = now.Add(-time.Second) }, 0, ""},
		{"an anchor that ends", func(b *bench) { b.state.AnchorsEnd["northwind"] = now.AddDate(0, 0, 29) }, 0, "Anchor of partner northwind: the certificate ends in 29 days"},
		{"a listener's certificate that ends", func(b *bench) { b.state.Certificates[0].NotAfter = now.AddDate(0, 0, 6) }, 0, "Listener partners: the certificate ends in 6 days"},
		{"a client certificate that ends", func(b *bench) {
			b.history.See("northwind", "ledger", [32]byte{1}, now, func() (string, string, time.Time) { return "", "", now.AddDate(0, 0, 13) })
		}, 0, "Client of partner northwind: the certificate ends in 13 days"},
		{"keys that cannot be fetched", func(b *bench) { b.state.Servers[0].Keys.Failure = errors.New("connection refused") }, 1, "the last fetch failed: connection refused"},
		{"suspended introspection of a server that is not required", func(b *bench) {
			b.state.Servers = append(b.state.Servers, validate.ServerStatus{Name: "appliance", Introspection: &introspect.Status{Suspended: true}})
		}, 0, "Authorization server appliance: introspection is suspended"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, settings)
			tt.happens(b)
			o := (&console{Source{State: func() *State { return &b.state }, History: b.history, Now: func() time.Time { return now }}}).view().overview()
			critical, found := 0, tt.text == "" && len(o.Notices) == 0
			for _, n := range o.Notices {
				if n.Critical {
					critical++
				}
				found = found || tt.text != "" && strings.Contains(n.Text, tt.text)
			}
			if critical != tt.critical || !found {
				t.Errorf("notices %+v, want %d critical and %q", o.Notices, tt.critical, tt.text)
			}
		})
	}
}

func TestPartnerPage(t *testing.T) {
	b := newBench(t, settings)
	b.refuse("borealis", "bound_to_other", history.Refused, 3, "token_partner", "northwind", "client_id", "northwind-ledger", "subject_dn", "CN=sync",
		"summary", "partner borealis showed a token of partner northwind, application northwind-ledger", "error", "cnf.x5t#S256: want A, got B", "not_after", "2026-12-01T00:00:00Z")
	for path, want := range map[string][]string{
		"/partner?name=borealis": {
			"bound_to_other", "3 times", "partner borealis showed a token of partner northwind", "The token of partner northwind was stolen or passed on", "Expected", ">A<", ">B<",
			"CN=sync", "in 20 hours", "grep 1f0c gate.log | tallygate explain --config &#39;/etc/tallygate/tallygate.yaml&#39; --log-line -", "docs/reasons.md#bound_to_other", "disabled",
		},
		"/partner?name=northwind": {"Tokens of this partner that others showed", "san_dns ledger.northwind.example", "/payments", "payments:write", "tallygate.yaml:30:7"},
		"/partners?q=1f0c":        {"Refusals with “1f0c” in their log line", "0 partners"},
		"/partners?q=LEDGER":      {"1 partner with"},
	} {
		body := b.page(path)
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("%s lacks %q", path, text)
			}
		}
	}
	b.failHandshakes(2)
	for path, want := range map[string][]string{
		"/":                     {"Failed TLS handshakes", "gate_certificate_not_trusted"},
		"/partner?name=unknown": {"TLS handshake at partners", "The TLS handshake failed, so there was no request.", "the client refuses the gate&#39;s certificate", "192.0.2.7:1", "docs/logs.md#failed-handshakes"},
	} {
		for _, text := range want {
			if !strings.Contains(b.page(path), text) {
				t.Errorf("%s lacks %q", path, text)
			}
		}
	}
	if w := b.get("/partner?name=nobody"); w.Code != http.StatusNotFound {
		t.Errorf("an unknown partner: status %d, want 404", w.Code)
	}
	if w := b.get("/assets/..%2fpage.go"); w.Code != http.StatusNotFound {
		t.Errorf("a file beside the assets: status %d, want 404", w.Code)
	}
}

// With ten thousand partners each page stays small and is rendered in time.
func TestLargeFleet(t *testing.T) {
	var text strings.Builder
	head, _, _ := strings.Cut(settings, "partners:\n  list:\n")
	text.WriteString(strings.Replace(head, "partners: [northwind]", "partners: [p0]", 1) + "partners:\n  list:\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "    - {name: p%d, applications: [{client_id: c%d, certificate: {san_dns: p%d.example}, apis: [accounts, payments]}]}\n", i, i, i)
	}
	b := newBench(t, text.String()+"admin: {console: {}}\n")
	for i := range 10_000 {
		name := fmt.Sprint("p", i)
		b.refuse(name, "bound_to_other", history.Refused, 1)
		b.grant(name, 1)
		b.history.See(name, "c", [32]byte{byte(i), byte(i >> 8)}, now, func() (string, string, time.Time) { return "", "", now })
		b.state.AnchorsEnd[config.Name(name)] = now
	}
	for _, path := range append([]string{"/partners?page=200", "/partners?page=999999", "/access?page=17", "/?format=json"}, everyPage...) {
		if w := b.get(strings.ReplaceAll(strings.ReplaceAll(path, "northwind", "p7"), "borealis", "p8")); w.Code != http.StatusOK || w.Body.Len() > 200<<10 {
			t.Errorf("%s: status %d and %d bytes, want 200 and at most 200 KiB", path, w.Code, w.Body.Len())
		}
	}
	if w := b.get("/access.csv"); strings.Count(w.Body.String(), "\n") != 1+10_000*3 {
		t.Errorf("the CSV has %d lines, want a heading and 30,000", strings.Count(w.Body.String(), "\n"))
	}
}

// The overview says which settings weaken a check, and never lets them hide other notices.
func TestWeakenedNotices(t *testing.T) {
	b := newBench(t, settings)
	b.state.Weakened = []string{"introspection responses without aud are accepted, issuer <keycloak>", "2", "3", "4", "5", "6", "7"}
	body := b.page("/")
	for _, want := range []string{"A setting weakens a check: introspection responses without aud are accepted, issuer &lt;keycloak&gt;.", "2 more settings weaken a check."} {
		if !strings.Contains(body, want) {
			t.Errorf("the overview lacks %q", want)
		}
	}
	if strings.Contains(body, "weakens a check: 6") {
		t.Error("the overview names more than five settings")
	}
	b.state.Weakened = nil
	if strings.Contains(b.page("/"), "weaken") {
		t.Error("without such a setting, the overview speaks of one")
	}
}

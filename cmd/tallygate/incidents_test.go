package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

// An incident needs an operator at once. play causes it; the other fields have the signs that the
// operator must see.
type incident struct {
	name string
	play func(n *night)
	// alerts are the alerts that begin to fire, each with its labels.
	alerts []string
	// line are members of the log line of the last refusal.
	line map[string]string
	// explained is in the output of tallygate explain --log-line for that line.
	explained []string
	// shown are texts in the overview of the console, or in a page that their key names.
	shown map[string][]string
}

var incidents = []incident{{
	name: "stolen token",
	// Borealis sends, once, a token that northwind has fetched.
	play: func(n *night) {
		n.refused(401, "bound_to_other", "-cert", "borealis", "-token", "good", "GET", "/accounts/7")
	},
	alerts:    []string{"TallygateTokenBoundToOther borealis accounts"},
	line:      map[string]string{"reason": "bound_to_other", "partner": "borealis", "token_partner": "northwind", "host": "api.example.test", "subject_dn": "CN=sync"},
	explained: []string{"partner borealis showed a token of partner northwind", "The token of partner northwind was stolen or passed on: revoke it"},
	shown: map[string][]string{
		"/":                       {"Critical", "borealis called accounts once in the last hour with a token that is bound to another certificate"},
		"/partner?name=borealis":  {"partner borealis showed a token of partner northwind", "CN=sync"},
		"/partner?name=northwind": {"Tokens of this partner that others showed", "revoke it"},
	},
}, {
	name: "renewed certificate with an old token",
	// Northwind's client has a new certificate and keeps its token, which is bound to the previous one.
	play: func(n *night) {
		n.refused(401, "bound_to_previous", "-cert", "renewed", "-token", "good", "GET", "/accounts/7")
	},
	alerts:    []string{"TallygateTokenBoundToPrevious northwind accounts"},
	line:      map[string]string{"reason": "bound_to_previous", "partner": "northwind", "application": "northwind-ledger"},
	explained: []string{"a renewal, not a theft", "must fetch a new token with it"},
	shown: map[string][]string{
		"/":                       {"northwind has renewed its certificate and called accounts once with a token of the previous certificate"},
		"/partner?name=northwind": {"bound_to_previous", "must fetch a new token with it"},
	},
}, {
	name: "expired anchor",
	// The anchor of northwind's authority ends. Here an expired certificate for the same key takes its place,
	// because the drill cannot wait for years.
	play: func(n *night) {
		anchor := n.pairs["northwind-ca"]
		n.replace("northwind-ca.pem", testpki.NewCA("Northwind Root", testpki.Keyed(anchor.Key), testpki.Expired()).CertPEM())
		n.await("ok", 1)
		n.refused(401, "untrusted_certificate", "-cert", "northwind", "-token", "good", "GET", "/accounts/7")
	},
	alerts:    []string{"TallygateTrustAnchorExpired northwind"},
	line:      map[string]string{"reason": "untrusted_certificate", "issuer_dn": "CN=Northwind Root"},
	explained: []string{"Compare the issuer of the certificate with trust of the partner"},
	shown: map[string][]string{
		"/":                     {"Critical", "Anchor of partner northwind: the certificate has expired"},
		"/partner?name=unknown": {"untrusted_certificate", "issuer_dn CN=Northwind Root"},
	},
}, {
	name: "authorization server down",
	// The server of opaque tokens stops. Northwind's tokens are JWTs of another server, and are still granted.
	play: func(n *night) {
		n.replace("northwind-ca.pem", n.pairs["northwind-ca"].CertPEM()) // the cure of the incident before
		n.await("ok", 2)
		n.server.Close()
		for i := range 10 {
			n.refused(503, "issuer_unavailable", "-cert", "borealis", "-H", fmt.Sprintf("Authorization: Bearer new-%d", i), "GET", "/accounts/7")
		}
		n.granted("northwind", "Bearer "+n.tokens["good"])
	},
	alerts:    []string{"TallygateErrorBudgetBurn", "TallygateErrorBudgetBurnSlow", "TallygateIntrospectionFailing appliance"},
	line:      map[string]string{"reason": "issuer_unavailable", "partner": "borealis", "api": "accounts"},
	explained: []string{"at fault     the authorization server", "tallygate check --online says why"},
	shown: map[string][]string{
		"/":                      {"Critical", "issuer_unavailable: 10 requests to accounts failed in the last ten minutes", "Authorization server appliance: introspection is suspended"},
		"/servers":               {"suspended after failures in a row", "last failure"},
		"/partner?name=borealis": {"10 times", "At fault"},
	},
}, {
	name: "a partner calls an API that is not its own",
	play: func(n *night) {
		for range 15 { // more than 10 in ten minutes
			n.refused(403, "api_not_allowed", "-cert", "northwind", "-token", "good", "GET", "/payments/7")
		}
	},
	alerts:    []string{"TallygateCallsNotAllowed northwind payments"},
	line:      map[string]string{"reason": "api_not_allowed", "partner": "northwind", "api": "payments", "route": "/payments/{id}"},
	explained: []string{"northwind-ledger", "Compare method and path with the routes, and the API with apis of the application"},
	shown: map[string][]string{
		"/":                       {"northwind called what it may not call at payments, 15 times in the last ten minutes", "borealis called accounts once in the last hour"},
		"/partner?name=northwind": {"api_not_allowed", "15 times", "/payments/{id}"},
	},
}}

// TestIncidents is the drill of docs/runbooks.md: after a quiet time that raises nothing, five incidents, one
// after the other, at a gate that a Prometheus with the rules of deploy/prometheus scrapes. Each must raise its
// own alerts and no other, leave its line in the log, be explained by tallygate explain, and be on the console.
func TestIncidents(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	n.beQuiet()
	before := n.firing()
	for _, i := range incidents {
		i.play(n)
		n.prometheus.settle()
		now := n.firing()
		begun := slices.DeleteFunc(slices.Clone(now), func(a string) bool { return slices.Contains(before, a) })
		if !slices.Equal(begun, i.alerts) {
			t.Errorf("%s raises %q, want %q", i.name, begun, i.alerts)
		}
		line := n.lastRefusal()
		n.expectLine(i, line)
		n.expectExplanation(i, line)
		n.expectConsole(i.name, i.shown)
		before = now
	}
	if slices.Contains(before, "TallygateTrustAnchorExpired northwind") {
		t.Error("TallygateTrustAnchorExpired fires after the anchor was replaced")
	}
	n.check(n.stop())
}

// A night is a gate with two partners, an authorization server for opaque tokens, an issuer in another process whose
// revocations the gate follows, and a Prometheus.
type night struct {
	*reloading
	issuer     *reloading
	server     *httptest.Server
	binary     string
	prometheus *prometheusServer
}

func newNight(t *testing.T) *night {
	t.Helper()
	n := &night{reloading: newReloading(t), binary: binary(t)}
	n.lastLong()
	n.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		claims := testpki.Bound("https://appliance.example.test", "https://api.example.test", "borealis-sync", n.pairs["borealis"], testpki.M{"active": true})
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(claims)
	}))
	t.Cleanup(n.server.Close)
	n.check(os.WriteFile(filepath.Join(n.dir, "secret.txt"), []byte("secret"), 0o600))
	n.pairs["northwind-ca"].WriteRevocationList(n.dir, "northwind.crl")
	n.startIssuer()
	n.configure(`admin: {address: "127.0.0.1:0"}`, `admin: {address: "127.0.0.1:0", console: {address: "127.0.0.1:0"}}`, "revocation: {}", "revocation: {lists: [northwind.crl], exempt: [borealis-ca.pem]}", "apis:\n", fmt.Sprintf(`  - name: appliance
    issuer: https://appliance.example.test
    audiences: [https://api.example.test]
    tokens: opaque
    connection: {insecure_loopback_http: true}
    introspection: {endpoint: "%s", client_id: gate, authentication: {method: client_secret_basic, secret_file: secret.txt}}
  - name: tallygate
    issuer: https://issuer.example.test
    audiences: [https://api.example.test]
    key_set: {url: "https://%[2]s/jwks"}
    connection: {trust: [%[3]s], certificate: {certificate: sidecar.pem, key: sidecar-key.pem}}
revocations: {server: tallygate, client_id: sidecar, feeds: ["https://%[2]s/revocations"]}
apis:
`, n.server.URL, n.issuer.issuerAddress, filepath.Join(n.issuer.dir, "gate.pem")))
	n.serve()
	n.prometheus = startPrometheus(t, n.addresses["admin"], n.issuer.addresses["admin"], hasten(t, incidents))
	n.prometheus.settle() // the first sample of each series is from before the first request
	return n
}

// startIssuer runs an issuer to whose revocations the gate of n may subscribe with the certificate sidecar.
func (n *night) startIssuer() {
	n.issuer = newReloading(n.t)
	internal := testpki.NewCA("Internal Root")
	internal.Write(n.issuer.dir, "internal-ca")
	internal.Leaf("sidecar", testpki.DNS("sidecar.internal.example")).Write(n.dir, "sidecar")
	n.pairs["northwind-ca"].Write(n.issuer.dir, "northwind-ca")
	n.issuer.replace("gate.yaml", fmt.Appendf(nil, `
listener:
  address: 127.0.0.1:0
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
authorization_servers:
  - {name: own, issuer: https://issuer.example.test, audiences: [https://api.example.test]}
apis:
  - {name: accounts, hosts: [api.example.test], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: /accounts}]}
partners:
  list:
    - name: northwind
      trust: [northwind-ca.pem]
      applications:
        - {client_id: northwind-ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts]}
issuer:
  issuer: https://issuer.example.test
  address: %s
  audience: https://api.example.test
  state: state
  resource_servers:
    - {client_id: sidecar, trust: [internal-ca.pem], certificate: {san_dns: sidecar.internal.example}, resources: [https://api.example.test], revocations: true}
admin: {address: "127.0.0.1:0"}
`, n.issuer.issuerAddress))
	n.issuer.serve()
}

// lastLong gives northwind and borealis certificates that end in ten years, and new tokens, because the
// certificates of the other tests end within a day, and an alert warns of such an end.
func (n *night) lastLong() {
	long := testpki.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(10, 0, 0))
	northwind, borealis := testpki.NewCA("Northwind Root", long), testpki.NewCA("Borealis Root", long)
	ledger := testpki.DNS("ledger.northwind.example")
	for name, pair := range map[string]*testpki.Pair{
		"northwind-ca": northwind, "northwind": northwind.Leaf("ledger", ledger, long), "renewed": northwind.Leaf("ledger", ledger, long),
		"borealis-ca": borealis, "borealis": borealis.Leaf("sync", long),
	} {
		n.pairs[name] = pair
		pair.Write(n.dir, name)
	}
	n.check(n.mint([]string{"good", "northwind", "northwind-ledger"}))
	n.check(n.mint([]string{"sync", "borealis", "borealis-sync"}))
	n.check(n.mint([]string{"unknown", "northwind", "northwind-ledger", "key=unknown"}))
	n.check(n.mint([]string{"late", "northwind", "northwind-ledger", fmt.Sprintf(`claims={"exp": %d}`, time.Now().Add(-time.Hour).Unix())}))
}

// hasten returns the rules of deploy/prometheus. The alerts of the incidents do not wait for minutes until
// they fire; TestRules shows that they do so with the rules as they are.
func hasten(t *testing.T, incidents []incident) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/tallygate.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules := string(text)
	for _, i := range incidents {
		for _, alert := range i.alerts {
			name, _, _ := strings.Cut(alert, " ")
			pattern := regexp.MustCompile(`(alert: ` + name + `\n +expr: .*\n) +for: .*\n`)
			rules = pattern.ReplaceAllString(rules, "$1")
		}
	}
	return rules
}

// granted sends a request that must be granted.
func (n *night) granted(certificate, authorization string) {
	n.t.Helper()
	n.check(n.call([]string{"-cert", certificate, "-H", "Authorization: " + authorization, "GET", "/accounts/7"}))
	if n.answer.StatusCode != http.StatusOK {
		n.t.Fatalf("a request of %s got\n%s\nwant 200", certificate, n.dump())
	}
}

// refused sends a request that must be refused, with no request at the upstream.
func (n *night) refused(status int, reason string, arguments ...string) {
	n.t.Helper()
	n.check(n.call(arguments))
	code := map[int]string{401: "invalid_token"}[status]
	n.check(n.testGate.refused(status, reason, code))
}

// beQuiet sends the requests of a quiet time, among them an expired token and a health check that only
// connects. No alert may fire, and none may be about to fire, neither now nor in an hour of such traffic.
func (n *night) beQuiet() {
	n.t.Helper()
	before := n.prometheus.snapshot()
	for range 2 {
		for i := range 20 {
			n.granted("northwind", "Bearer "+n.tokens["good"])
			n.granted("borealis", fmt.Sprintf("Bearer opaque-%d", i))
		}
		n.refused(401, "expired", "-cert", "northwind", "-token", "late", "GET", "/accounts/7")
		say(n.reloading, n.addresses["partners"], "")
		n.prometheus.settle()
	}
	expectQuietHour(n.t, before, n.prometheus.snapshot())
	const weakened = "A setting weakens a check: plain http to this machine is allowed for authorization server appliance."
	n.expectConsole("the quiet time", map[string][]string{"/": {weakened, "northwind", "expired"}})
	var overview struct{ Notices []struct{ Text string } }
	_, body, err := n.get("console", "/?format=json")
	n.check(err)
	if err := json.Unmarshal(body, &overview); err != nil || len(overview.Notices) != 1 {
		n.t.Errorf("the console of a quiet time has the notices %+v (%v), want the weakened check alone", overview.Notices, err)
	}
	for _, a := range n.prometheus.alerts() {
		// Two alerts are about the speed of the machine, and a test machine may be slow.
		if name := a.Labels["alertname"]; name != "TallygateOverheadHigh" && name != "TallygateIntrospectionSlow" {
			n.t.Errorf("a quiet time raises %s (%s)", a, a.State)
		}
	}
}

// firing returns the alerts that fire. Each must have labels that name its subject, and the URL of its runbook.
func (n *night) firing() (found []string) {
	n.t.Helper()
	for _, a := range n.prometheus.alerts() {
		if a.State != "firing" {
			continue
		}
		found = append(found, a.String())
		summary := a.Annotations["summary"]
		for _, label := range []string{"partner", "api", "issuer", "name"} {
			if !strings.Contains(summary, a.Labels[label]) {
				n.t.Errorf("the summary of %s is %q, want %s %q in it", a, summary, label, a.Labels[label])
			}
		}
	}
	return found
}

// lastRefusal returns the last line of the log about a refused request.
func (n *night) lastRefusal() (last []byte) {
	for line := range bytes.Lines(n.log.Bytes()) {
		if bytes.Contains(line, []byte(`"msg":"request"`)) && !bytes.Contains(line, []byte(`"reason":"granted"`)) {
			last = line
		}
	}
	return last
}

func (n *night) expectLine(i incident, line []byte) {
	n.t.Helper()
	var members map[string]any
	if err := json.Unmarshal(line, &members); err != nil {
		n.t.Errorf("%s: the log line %q: %v", i.name, line, err)
	}
	for key, want := range i.line {
		if members[key] != want {
			n.t.Errorf("%s: %s in the log line is %v, want %s:\n%s", i.name, key, members[key], want, line)
		}
	}
}

func (n *night) expectExplanation(i incident, line []byte) {
	n.t.Helper()
	explain := exec.CommandContext(n.t.Context(), n.binary, "explain", "--config", filepath.Join(n.dir, "gate.yaml"), "--log-line", "-")
	explain.Stdin = bytes.NewReader(line)
	output, err := explain.CombinedOutput()
	if err != nil {
		n.t.Errorf("%s: explain: %v\n%s", i.name, err, output)
	}
	for _, want := range i.explained {
		if !bytes.Contains(output, []byte(want)) {
			n.t.Errorf("%s: explain does not say %q:\n%s", i.name, want, output)
		}
	}
}

// expectConsole looks for texts in pages of the console, and for parts of tokens, which no page may have.
func (n *night) expectConsole(when string, shown map[string][]string) {
	n.t.Helper()
	for path, texts := range shown {
		status, body, err := n.get("console", path)
		n.check(err)
		if status != http.StatusOK {
			n.t.Errorf("%s: %s of the console has status %d, want 200", when, path, status)
		}
		page := html.UnescapeString(string(body))
		for name, token := range n.tokens {
			for _, part := range strings.Split(token, ".") {
				if len(part) > 20 && strings.Contains(page, part) {
					n.t.Errorf("%s: %s of the console holds a part of the token %s", when, path, name)
				}
			}
		}
		for _, text := range texts {
			if !strings.Contains(page, text) {
				n.t.Errorf("%s: %s of the console lacks %q:\n%s", when, path, text, page)
			}
		}
	}
}

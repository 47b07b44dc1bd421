package rules_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/rules"
)

var leaf = testpki.NewCA("Northwind CA").Leaf(`a"b' || true`, testpki.DNS("ledger.northwind.example"))

func input() rules.Input {
	return rules.Input{
		ClientID: "northwind-ledger", Partner: "northwind", Authentication: "tls_client_auth",
		Certificate: leaf.Cert, Thumbprint: leaf.Thumbprint(),
		Scopes: []string{"accounts:read", "accounts:write"}, Resources: []string{"https://api.example.com"},
		Address: netip.MustParseAddr("10.1.2.3"), Time: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
		Granted: []string{"accounts:read", "accounts:write"}, Lifetime: 5 * time.Minute, Bound: true,
	}
}

func compile(t testing.TB, g config.Governance) *rules.Policy {
	t.Helper()
	p, err := rules.Compile(&config.Config{Issuer: &config.Issuer{Governance: g}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every level and every effect.
func TestDecide(t *testing.T) {
	tests := []struct {
		name  string
		rules config.Governance
		want  rules.Outcome
		error string
	}{
		{name: "no rules", want: rules.Outcome{Scopes: []string{"accounts:read", "accounts:write"}, Lifetime: 5 * time.Minute}},
		{
			name:  "workspace refuses",
			rules: config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: `!cidr("192.0.2.0/24").containsIP(request.address)`, Refuse: "from elsewhere"}}},
			error: "workspace rule r: from elsewhere",
		},
		{
			name:  "workspace lets pass",
			rules: config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: `!cidr("10.0.0.0/8").containsIP(request.address)`, Refuse: "from elsewhere"}}},
			want:  rules.Outcome{Scopes: []string{"accounts:read", "accounts:write"}, Lifetime: 5 * time.Minute},
		},
		{
			name:  "lifetime is shortened and never lengthened",
			rules: config.Governance{Workspace: []config.WorkspaceRule{{Name: "a", When: `granted.bound`, Lifetime: time.Minute}, {Name: "b", When: `granted.lifetime == duration("1m")`, Lifetime: time.Hour}}},
			want:  rules.Outcome{Scopes: []string{"accounts:read", "accounts:write"}, Lifetime: time.Minute},
		},
		{
			name:  "another application's rule",
			rules: config.Governance{Application: []config.ApplicationRule{{Name: "r", ClientID: "another", When: "true", Refuse: "no"}}},
			want:  rules.Outcome{Scopes: []string{"accounts:read", "accounts:write"}, Lifetime: 5 * time.Minute},
		},
		{
			name:  "the application's rule",
			rules: config.Governance{Application: []config.ApplicationRule{{Name: "r", ClientID: "northwind-ledger", When: `request.time < timestamp("2027-01-01T00:00:00Z")`, Refuse: "not yet"}}},
			error: "application rule r: not yet",
		},
		{
			name:  "scope is dropped, and later rules see it gone",
			rules: config.Governance{Scope: []config.ScopeRule{{Name: "a", Scope: "accounts:write", When: `scope == "accounts:write"`, Drop: true}, {Name: "b", Scope: "accounts:read", When: `"accounts:write" in granted.scopes`, Refuse: "no"}}},
			want:  rules.Outcome{Scopes: []string{"accounts:read"}, Lifetime: 5 * time.Minute},
		},
		{
			name:  "a scope that is not granted",
			rules: config.Governance{Scope: []config.ScopeRule{{Name: "a", Scope: "payments:write", When: `true`, Refuse: "no"}}},
			want:  rules.Outcome{Scopes: []string{"accounts:read", "accounts:write"}, Lifetime: 5 * time.Minute},
		},
		{
			name: "claims",
			rules: config.Governance{Claims: []config.ClaimRule{
				{Name: "a", Claim: "tier", Value: `client.partner == "northwind" ? "gold" : "basic"`},
				{Name: "b", Claim: "names", Value: `certificate.san_dns`},
				{Name: "c", Claim: "limits", Value: `{"calls": 5, "open": true}`},
				{Name: "d", Claim: "never", When: "false", Value: `1`},
			}},
			want: rules.Outcome{Scopes: []string{"accounts:read", "accounts:write"}, Lifetime: 5 * time.Minute, Claims: map[string]any{
				"tier": "gold", "names": []any{"ledger.northwind.example"}, "limits": map[string]any{"calls": int64(5), "open": true},
			}},
		},
		{
			name:  "a hostile name is only text",
			rules: config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: `certificate.subject_dn == "CN=admin"`, Refuse: "no"}}},
			want:  rules.Outcome{Scopes: []string{"accounts:read", "accounts:write"}, Lifetime: 5 * time.Minute},
		},
		{
			name:  "an error refuses",
			rules: config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: `certificate.san_uri[0] == "x"`, Lifetime: time.Minute}}},
			error: "workspace rule r could not be evaluated",
		},
		{
			name:  "what costs too much refuses",
			rules: config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: expensive, Lifetime: time.Minute}}},
			error: "cost limit",
		},
		{
			name:  "a claim of many values refuses",
			rules: config.Governance{Claims: []config.ClaimRule{{Name: "r", Claim: "c", Value: `[1, 2, 3, 4, 5, 6, 7, 8]` + strings.Repeat(`.map(a, [a, a, a, a])`, 8)}}},
			error: "more than 1000 values",
		},
		{
			name:  "a claim that is too large refuses",
			rules: config.Governance{Claims: []config.ClaimRule{{Name: "r", Claim: "c", Value: `[` + strings.Repeat(`"0123456789012345678901234567890123456789",`, 60) + `"0"].map(s, s + s)`}}},
			error: "claims rule r could not be evaluated",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := compile(t, test.rules)
			var trace rules.Trace
			for _, tr := range []*rules.Trace{nil, &trace} {
				got, err := p.Decide(input(), tr)
				if test.error != "" {
					var refusal *rules.Refusal
					if !errors.As(err, &refusal) || !strings.Contains(err.Error(), test.error) {
						t.Fatalf("Decide returned %+v, %v; want a refusal with %q", got, err, test.error)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			if rules := test.rules; len(trace.Steps) != len(rules.Workspace)+len(rules.Application)+len(rules.Scope)+len(rules.Claims) {
				t.Errorf("the trace has %d steps, want one for each rule", len(trace.Steps))
			}
			if _, err := json.Marshal(trace); err != nil {
				t.Error(err)
			}
		})
	}
}

// The expression makes 100 × 100 × 100 comparisons, far beyond the cost limit.
var expensive = func() string {
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + "]"
	return list + ".all(a, " + list + ".all(b, " + list + ".all(c, a + b + c == 3)))"
}()

// The error for an expression that does not compile has its path and the cause.
func TestFaults(t *testing.T) {
	tests := []struct{ name, when, want string }{
		{"unknown variable", `cert.subject_dn == ""`, "undeclared reference to 'cert'"},
		{"unknown field", `certificate.subject == ""`, "undefined field 'subject'"},
		{"no truth value", `client.id`, "has type string, want bool"},
		{"other types", `client.id == 1`, "no matching overload"},
		{"syntax", `client.id ==`, "Syntax error"},
		{"scope elsewhere", `scope == "x"`, "undeclared reference to 'scope'"},
		{"what grows without costing", `"a".replace("a", "aa") == ""`, "undeclared reference to 'replace'"},
		{"lists added", `[[1]].map(a, a + a).exists(l, l == l)`, "lists and values of unknown type cannot be added"},
		{"unknown types added", `dyn(client.id) + dyn(client.id) == "x"`, "lists and values of unknown type cannot be added"},
		{"many macros", `[1]` + strings.Repeat(`.map(a, [a, a])`, 9) + ` == []`, "9 macros"},
		{"too long", strings.Repeat("true || ", 1000) + "true", "size"},
		{"too deep", strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "recursion"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := rules.Compile(&config.Config{Issuer: &config.Issuer{Governance: config.Governance{
				Workspace: []config.WorkspaceRule{{Name: "r", When: test.when, Refuse: "no"}},
			}}})
			var faults config.Faults
			if !errors.As(err, &faults) || faults[0].Path != "issuer.governance.workspace[0].when" || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Compile returned %v, want %q", err, test.want)
			}
		})
	}
	if p, err := rules.Compile(&config.Config{}); err != nil || p == nil {
		t.Errorf("Compile without an issuer returned %v, want nil", err)
	}
}

// No expression makes the compiler or the evaluation panic.
func FuzzWhen(f *testing.F) {
	for _, seed := range []string{`true`, `client.id == "x"`, `certificate.san_dns.exists(n, n.endsWith(".example"))`, `ip(request.address).family() == 4`, `1/0 == 1`, "\x00", `"\ud800"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, when string) {
		p, err := rules.Compile(&config.Config{Issuer: &config.Issuer{Governance: config.Governance{
			Workspace: []config.WorkspaceRule{{Name: "r", When: when, Lifetime: time.Minute}},
		}}})
		if err != nil {
			return
		}
		out, err := p.Decide(input(), nil)
		if err == nil && (len(out.Scopes) != 2 || out.Lifetime > 5*time.Minute) {
			t.Errorf("Decide with %q returned %+v", when, out)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	for name, n := range map[string]int{"0 rules": 0, "1 rule": 1, "10 rules": 10} {
		b.Run(name, func(b *testing.B) {
			var g config.Governance
			for range n {
				g.Workspace = append(g.Workspace, config.WorkspaceRule{Name: "r", When: `client.partner == "southridge" && certificate.san_dns.exists(n, n.endsWith(".example"))`, Refuse: "no"})
			}
			p := compile(b, g)
			in := input()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Decide(in, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

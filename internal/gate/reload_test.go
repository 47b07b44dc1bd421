package gate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

// seriesOf returns the number of metrics with a label of that value.
func (g *Gate) seriesOf(t *testing.T, value string) (n int) {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == value {
					n++
				}
			}
		}
	}
	return n
}

// A reload that fails in its last step does not change the current state, and releases everything of the
// next state. The next reload shares what has not changed, and a reload without a server removes its
// metrics.
func TestFailedReload(t *testing.T) {
	g, dir := newTestGate(t, map[string]string{"partners": "127.0.0.1:1", "issuer": "127.0.0.1:2", "admin": "127.0.0.1:3", "api": "127.0.0.1:4"})
	file, anchors := filepath.Join(dir, "tallygate.yaml"), filepath.Join(dir, "upstream-ca.pem")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	original := string(content)
	edited := strings.Replace(original, "authorization_servers:\n", "authorization_servers:\n"+
		"  - {name: second, issuer: \"https://second.example\", audiences: [\"https://api.example\"], required: false}\n", 1)
	edited = strings.Replace(edited, `{url: "http://127.0.0.1:4"}`, `{url: "https://127.0.0.1:4", tls: {trust: [upstream-ca.pem]}}`, 1)
	first := g.current.Load()
	write(anchors, "no certificate")
	write(file, edited)
	if g.reload(t.Context()) || g.current.Load() != first || !strings.Contains(g.reloads.fault, "upstream-ca.pem") {
		t.Fatalf("reload with a broken anchor: new state %t, fault %q, want the state before and a fault of upstream-ca.pem", g.current.Load() != first, g.reloads.fault)
	}
	if n := g.seriesOf(t, "second"); n != 0 {
		t.Errorf("%d series of a server of a failed reload, want 0", n)
	}
	write(anchors, string(testpki.NewCA("Upstream Root").CertPEM()))
	if !g.reload(t.Context()) {
		t.Fatalf("reload with a good anchor failed: %s", g.reloads.fault)
	}
	if second := g.current.Load(); second == first || second.Trust != first.Trust || g.seriesOf(t, "second") == 0 {
		t.Errorf("after the reload: new state %t, same Trust %t, %d series of the new server; want true, true, some", second != first, second.Trust == first.Trust, g.seriesOf(t, "second"))
	}
	write(file, original)
	if !g.reload(t.Context()) || g.seriesOf(t, "second") != 0 {
		t.Errorf("%d series of a removed server, want 0; fault %q", g.seriesOf(t, "second"), g.reloads.fault)
	}
	g.current.Load().Close()
}

// A reload warns of a setting that weakens the gate, as a start does.
func TestReloadWarnsOfInsecureSettings(t *testing.T) {
	g, dir := newTestGate(t, map[string]string{"partners": "127.0.0.1:1", "issuer": "127.0.0.1:2", "admin": "127.0.0.1:3", "api": "127.0.0.1:4"})
	var log strings.Builder
	g.log = NewLog(&log, &g.level)
	file := filepath.Join(dir, "tallygate.yaml")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(content), "authorization_servers:\n", "authorization_servers:\n"+
		"  - {name: second, issuer: \"https://second.example\", audiences: [\"https://api.example\"], required: false, tokens: opaque,\n"+
		"     introspection: {client_id: gate, insecure_audience_optional: true, authentication: {method: client_secret_basic, secret_file: secret.txt}}}\n", 1)
	for name, text := range map[string]string{"tallygate.yaml": edited, "secret.txt": "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !g.reload(t.Context()) {
		t.Fatalf("reload failed: %s", g.reloads.fault)
	}
	defer g.current.Load().Close()
	if want := `"msg":"insecure: introspection responses without aud are accepted","issuer":"second"`; !strings.Contains(log.String(), want) {
		t.Errorf("log %s, want %s in it", log.String(), want)
	}
	if got, want := g.consoleState().Weakened, "introspection responses without aud are accepted, issuer second"; !slices.Contains(got, want) {
		t.Errorf("the console has the warnings %q, want %q", got, want)
	}
}

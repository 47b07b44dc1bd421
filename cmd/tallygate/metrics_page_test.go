package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/gate"
)

// absent are the metrics that the gate of TestMetricsPage does not have, with the setting that each needs.
var absent = map[string]string{
	"tallygate_acme_attempts_total":                            "a certificate from ACME",
	"tallygate_security_events_last_success_timestamp_seconds": "polls for security events",
	"tallygate_issuer_tokens_issued_total":                     "a token",
	"tallygate_revocation_stream_connected":                    "revocations",
	"tallygate_revocation_last_sync_timestamp_seconds":         "revocations",
	"tallygate_revocation_stale":                               "revocations",
	"tallygate_revocation_sequence":                            "revocations",
	"tallygate_revocation_entries":                             "revocations",
	"tallygate_revocation_events_total":                        "revocations",
	"tallygate_revocation_propagation_seconds":                 "revocations",
}

// docs/metrics.md has exactly the metrics of a running gate, with their types and labels.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.pairs["northwind-ca"].WriteRevocationList(r.dir, "northwind.crl")
	r.check(os.WriteFile(r.dir+"/secret", []byte("0123456789abcdef0123456789abcdef"), 0o600))
	r.configure(
		"revocation: {}", "revocation: {lists: [northwind.crl], exempt: [borealis-ca.pem, dormant-ca.pem]}",
		"authorization_servers:\n", "authorization_servers:\n"+
			"  - {name: ours, issuer: \"https://"+r.issuerAddress+"\", audiences: [https://api.example.test]}\n"+
			"  - {name: opaque, required: false, issuer: \"https://opaque.example.test\", audiences: [https://api.example.test], tokens: opaque, introspection: {endpoint: \"https://127.0.0.1:1/introspect\", client_id: gate, authentication: {method: client_secret_basic, secret_file: secret}}, security_events: {audience: gate, push: {path: /security-events/opaque, authorization_file: secret}}}\n",
		"admin:", "issuer: {issuer: \"https://"+r.issuerAddress+"\", address: "+r.issuerAddress+", state: state, audience: https://api.example.test}\nadmin:")
	r.serve()
	visit, _ := r.visitor("northwind", "good", false, 0)
	expectVisit(t, visit, 200, "")

	_, text, err := r.admin("/metrics")
	r.check(err)
	scraped := scrape(string(text))
	page, err := os.ReadFile("../../docs/metrics.md")
	r.check(err)
	documented := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `(tallygate_[a-z_]+)` \\| (\\w+) \\| ([^|]+) \\| [^|]+ \\| [^|]+\\? \\|$")
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		labels := regexp.MustCompile("[a-z_]+").FindAllString(m[3], -1)
		slices.Sort(labels)
		documented[m[1]] = m[2] + " " + strings.Join(labels, " ")
	}
	for _, name := range slices.Sorted(maps.Keys(scraped)) {
		if got := documented[name]; got != scraped[name] {
			t.Errorf("metrics.md has %q for %s, want %q", got, name, scraped[name])
		}
		if absent[name] != "" {
			t.Errorf("%s exists without %s", name, absent[name])
		}
	}
	for name := range documented {
		if scraped[name] == "" && absent[name] == "" {
			t.Errorf("metrics.md has %s, which a running gate has not", name)
		}
	}
	for name := range absent {
		if documented[name] == "" {
			t.Errorf("metrics.md lacks %s", name)
		}
	}
	if r.addresses[gate.IssuerListener] == "" || len(documented) < 40 {
		t.Errorf("%d rows, want at least 40", len(documented))
	}
	r.check(r.stop())
}

// scrape returns the type and the sorted labels of each metric of the gate in text.
func scrape(text string) map[string]string {
	types, labels := map[string]string{}, map[string]map[string]bool{}
	label := regexp.MustCompile(`(?:[{,])([a-z_]+)="`)
	for line := range strings.Lines(text) {
		if name, kind, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# TYPE "), " "); ok && strings.HasPrefix(line, "# TYPE tallygate_") {
			types[name], labels[name] = kind, map[string]bool{}
			continue
		}
		name, _, _ := strings.Cut(strings.ReplaceAll(line, "{", " "), " ")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); types[base] == "histogram" {
				name = base
			}
		}
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			if labels[name] != nil && m[1] != "le" {
				labels[name][m[1]] = true
			}
		}
	}
	for name := range types {
		types[name] += " " + strings.Join(slices.Sorted(maps.Keys(labels[name])), " ")
	}
	return types
}

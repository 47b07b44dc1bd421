package docs_test

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/accesslog"
)

// The partner guide has one line for each reason, with its status, and one for each way in
// which a granted request can fail, and no line for anything else.
func TestPartnerGuideReasons(t *testing.T) {
	page, err := os.ReadFile("partner-guide.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{} // by "reason status"
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9]{3}|–) \\|").FindAllSubmatch(page, -1) {
		lines[string(m[1])+" "+string(m[2])]++
	}
	want := map[string]int{}
	for _, r := range access.Reasons() {
		status := "–"
		if r.Status() > 0 {
			status = fmt.Sprint(r.Status())
		}
		want[r.String()+" "+status]++
	}
	for label, status := range failures(t) {
		want[label+" "+status]++
	}
	for line, n := range want {
		if lines[line] != n {
			t.Errorf("got %d lines for %s, want %d", lines[line], line, n)
		}
	}
	for line := range lines {
		if want[line] == 0 {
			t.Errorf("%s is no reason with its status", line)
		}
	}
}

// failures returns the ways in which granted requests fail, as the metric has them, each with
// the status that package proxy answers with.
func failures(t *testing.T) map[string]string {
	t.Helper()
	status := map[string]string{
		"client_closed": "–", "client_stalled": "408", "client_malformed": "400", "body_too_large": "413",
		"upstream_unreachable": "502", "upstream_timeout": "504", "upstream_tls": "502", "upstream_reset": "502",
	}
	registry := prometheus.NewRegistry()
	accesslog.NewMetrics(registry)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, family := range families {
		if family.GetName() != "tallygate_upstream_errors_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			label := m.GetLabel()[1].GetValue() // the first label is the API
			if status[label] == "" {
				t.Errorf("the test does not know the failure %s", label)
			}
			labels[label] = status[label]
		}
	}
	if len(labels) == 0 {
		t.Fatal("the metric of failures has no labels")
	}
	return labels
}

// Package prometheus_test checks the rules for Prometheus in this folder.
package prometheus_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tallygate/tallygate/internal/gatetest"
)

const (
	rules = "tallygate.rules.yaml"
	tests = "tallygate.rules.test.yaml"
	pages = "https://github.com/tallygate/tallygate/blob/main/docs/runbooks.md#"
)

type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

// alerts returns the alerting rules.
func alerts(t *testing.T) (found []rule) {
	t.Helper()
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if r.Alert != "" {
				found = append(found, r)
			}
		}
	}
	if len(found) < 20 { // 27 when the test was written
		t.Fatalf("%s has %d alerts, want at least 20", rules, len(found))
	}
	return found
}

// Prometheus accepts the rules, and each alert fires when its test says so, and not before.
func TestRules(t *testing.T) {
	gatetest.NeedPrograms(t, "promtool")
	for _, arguments := range [][]string{{"check", "rules", rules}, {"test", "rules", tests}} {
		if output, err := exec.CommandContext(t.Context(), "promtool", arguments...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, output)
		}
	}
}

// Each alert has a severity, a summary and a section in the runbooks, to which it links. Each section
// belongs to an alert, in the order of the rules.
func TestEveryAlertHasARunbook(t *testing.T) {
	page, err := os.ReadFile("../../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	var sections, names []string
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(page), -1) {
		sections = append(sections, m[1])
	}
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		if got, want := a.Annotations["runbook_url"], pages+strings.ToLower(a.Alert); got != want {
			t.Errorf("runbook_url of %s is %q, want %q", a.Alert, got, want)
		}
		if a.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", a.Alert)
		}
		if severities := []string{"page", "warning", "ticket", "info"}; !slices.Contains(severities, a.Labels["severity"]) {
			t.Errorf("severity of %s is %q, want one of %q", a.Alert, a.Labels["severity"], severities)
		}
	}
	if !slices.Equal(sections, names) {
		t.Errorf("docs/runbooks.md has the sections\n%q, want the alerts\n%q", sections, names)
	}
}

// The tests of promtool show each alert silent before they show it firing.
func TestEveryAlertIsTested(t *testing.T) {
	text, err := os.ReadFile(tests)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			Expressions []struct {
				Expr    string
				Samples []any `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	shown := map[string][]int{} // the numbers of samples, by expression
	for _, test := range file.Tests {
		for _, e := range test.Expressions {
			shown[e.Expr] = append(shown[e.Expr], len(e.Samples))
		}
	}
	for _, a := range alerts(t) {
		got := shown[`ALERTS{alertname="`+a.Alert+`", alertstate="firing"}`]
		if len(got) < 2 || got[0] != 0 || got[1] != 1 {
			t.Errorf("%s: the tests expect %v firing alerts, want 0 and then 1", a.Alert, got)
		}
	}
}

package chart_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// A ruleGroup is a group of rules in a file for Prometheus.
type ruleGroup struct {
	Name  string `json:"name"`
	Rules []rule `json:"rules"`
}

type rule struct {
	Record      string            `json:"record,omitempty"`
	Alert       string            `json:"alert,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// thresholdMark finds the threshold of an expression, which has parentheses of its own.
var thresholdMark = regexp.MustCompile(`\(([0-9.]+( \* [0-9.]+)*)\)`)

// rulesFile returns the rules of deploy/prometheus.
func rulesFile(t *testing.T) []ruleGroup {
	t.Helper()
	content, err := os.ReadFile("../../deploy/prometheus/tallygate.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return groupsIn(t, content)
}

func groupsIn(t *testing.T, content []byte) []ruleGroup {
	t.Helper()
	var file struct {
		Groups []ruleGroup `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(content, &file); err != nil {
		t.Fatal(err)
	}
	return file.Groups
}

// renderedRules renders the PrometheusRule with further arguments for helm.
func renderedRules(t *testing.T, args ...string) []ruleGroup {
	t.Helper()
	all := render(t, chart, append([]string{"-f", chart + "/ci/gateway-values.yaml", "--set", "prometheusRule.enabled=true"}, args...)...)
	spec := get[*monitoring.PrometheusRule](t, all, "PrometheusRule/r-tallygate").Spec
	return groupsIn(t, []byte(text(t, spec)))
}

func alertsOf(groups []ruleGroup) (alerts []rule) {
	for _, group := range groups {
		for _, r := range group.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			}
		}
	}
	return alerts
}

// A chart cannot read files beside its folder, so it has copies.
func TestCopies(t *testing.T) {
	for copied, from := range map[string]string{
		"tallygate.rules.yaml":     "../../deploy/prometheus/tallygate.rules.yaml",
		"tallygate.dashboard.json": "../../deploy/grafana/tallygate.dashboard.json",
	} {
		want, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(chart+"/files/"+copied, want, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(chart + "/files/" + copied); err != nil || !bytes.Equal(got, want) {
			t.Errorf("files/%s differs from %s (%v): go test -run TestCopies -update", copied, from, err)
		}
	}
}

// Without changes the PrometheusRule has the rules of deploy/prometheus, which have their tests there.
func TestRules(t *testing.T) {
	want := rulesFile(t)
	if alerts := alertsOf(want); len(alerts) < 20 {
		t.Fatalf("%d alerts, want at least 20", len(alerts))
	}
	if got := renderedRules(t); !reflect.DeepEqual(got, want) {
		t.Errorf("the PrometheusRule has\n%s,\nwant\n%s", text(t, got), text(t, want))
	}
}

// TestAlertChanges changes every alert in every way, and nothing else changes.
func TestAlertChanges(t *testing.T) {
	want := rulesFile(t)
	var args []string
	for g := range want {
		for i := range want[g].Rules {
			alert := &want[g].Rules[i]
			if alert.Alert == "" {
				continue
			}
			name := "prometheusRule.rules." + alert.Alert
			args = append(args, "--set", name+".for=7m,"+name+".severity=critical,"+name+".labels.channel=gate")
			alert.For, alert.Labels["severity"], alert.Labels["channel"], alert.Labels["team"] = "7m", "critical", "gate", "partners"
			if thresholdMark.MatchString(alert.Expr) {
				args = append(args, "--set", name+".threshold=4711 * 2")
				alert.Expr = thresholdMark.ReplaceAllLiteralString(alert.Expr, "(4711 * 2)")
			}
		}
	}
	args = append(args, "--set", "prometheusRule.additionalRuleLabels.team=partners")
	if got := renderedRules(t, args...); !reflect.DeepEqual(got, want) {
		t.Errorf("the changed rules are\n%s,\nwant\n%s", text(t, got), text(t, want))
	}
	checkRules(t, want)
}

// checkRules checks the rules with promtool.
func checkRules(t *testing.T, groups []ruleGroup) {
	t.Helper()
	gatetest.NeedPrograms(t, "promtool")
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(text(t, map[string]any{"groups": groups})), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// A disabled alert is left out, and nothing else; a group without rules is left out, too.
func TestDisabledAlerts(t *testing.T) {
	want := rulesFile(t)
	var args []string
	for _, r := range alertsOf(want[len(want)-1:]) {
		args = append(args, "--set", "prometheusRule.rules."+r.Alert+".enabled=false")
	}
	want = want[:len(want)-1]
	args = append(args, "--set", "prometheusRule.rules.TallygateDown.enabled=false")
	want[1].Rules = slices.DeleteFunc(want[1].Rules, func(r rule) bool { return r.Alert == "TallygateDown" })
	if got := renderedRules(t, args...); !reflect.DeepEqual(got, want) {
		t.Errorf("the rules are\n%s,\nwant\n%s", text(t, got), text(t, want))
	}
}

// Thresholds as numbers: Helm has thresholds as floating-point numbers, and PromQL must be able to read the
// text: without an exponent, or with an exponent of PromQL.
func TestThresholdNumbers(t *testing.T) {
	for value, want := range map[string]string{"0.25": "> (0.25)", "1": "> (1)", "0": "> (0)"} {
		alerts := alertsOf(renderedRules(t, "--set", "prometheusRule.rules.TallygateOverheadHigh.threshold="+value))
		i := slices.IndexFunc(alerts, func(r rule) bool { return r.Alert == "TallygateOverheadHigh" })
		if got := alerts[i].Expr; !strings.HasSuffix(got, want) {
			t.Errorf("with %s: %s, want %s", value, got, want)
		}
	}
}

// TallygateDown matches the job of either monitor, for any name of the release.
func TestJob(t *testing.T) {
	down := alertsOf(rulesFile(t))[0]
	m := regexp.MustCompile(`job=~"([^"]+)"`).FindStringSubmatch(down.Expr)
	if down.Alert != "TallygateDown" || m == nil {
		t.Fatalf("the first alert is %s with %s", down.Alert, down.Expr)
	}
	job := regexp.MustCompile("^(?:" + m[1] + ")$")
	for _, kind := range []string{"podMonitor", "serviceMonitor"} {
		all := render(t, chart, "-f", chart+"/ci/gateway-values.yaml", "--set", "fullnameOverride=gate,"+kind+".enabled=true", "--namespace", "edge")
		var relabelings []monitoring.RelabelConfig
		if kind == "podMonitor" {
			relabelings = get[*monitoring.PodMonitor](t, all, "PodMonitor/gate").Spec.PodMetricsEndpoints[0].RelabelConfigs
		} else {
			relabelings = get[*monitoring.ServiceMonitor](t, all, "ServiceMonitor/gate").Spec.Endpoints[0].RelabelConfigs
		}
		if len(relabelings) != 1 || relabelings[0].TargetLabel != "job" || *relabelings[0].Replacement != "tallygate/edge/gate" || !job.MatchString(*relabelings[0].Replacement) {
			t.Errorf("%s relabels by %s, want the job tallygate/edge/gate", kind, text(t, relabelings))
		}
	}
}

package main

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// A snapshot has the value of each series of a gate, by the series as Prometheus writes it.
type snapshot struct {
	taken  time.Time
	values map[string]float64
}

// snapshot returns the series that the gate exports now, and whether it is up.
func (p *prometheusServer) snapshot() snapshot {
	p.t.Helper()
	s := snapshot{time.Now(), map[string]float64{}}
	for _, found := range p.query(`{__name__=~"up|tallygate_.+", job="tallygate"}`) {
		value, err := strconv.ParseFloat(found.Value[1].(string), 64)
		if err != nil {
			p.t.Fatal(err)
		}
		name := found.Metric["__name__"]
		labels := make([]string, 0, len(found.Metric))
		for _, label := range slices.Sorted(maps.Keys(found.Metric)) {
			if label != "__name__" {
				labels = append(labels, fmt.Sprintf("%s=%q", label, found.Metric[label]))
			}
		}
		if strings.HasSuffix(name, "_timestamp_seconds") { // the time of promtool begins at 0
			value -= float64(s.taken.Unix())
		}
		s.values[name+"{"+strings.Join(labels, ",")+"}"] = value
	}
	return s
}

// counter matches the series that grow with the traffic.
var counter = regexp.MustCompile(`_(total|bucket|count|sum)\{`)

// expectQuietHour has promtool evaluate the rules, with all their waits, over 70 minutes in each of which
// there is the traffic between the two snapshots. No alert may fire or be about to fire.
func expectQuietHour(t *testing.T, before, after snapshot) {
	t.Helper()
	gatetest.NeedPrograms(t, "promtool")
	rules, err := filepath.Abs("../../deploy/prometheus/tallygate.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var test strings.Builder
	fmt.Fprintf(&test, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n", rules)
	moved := 0
	for _, series := range slices.Sorted(maps.Keys(after.values)) {
		first, growth := after.values[series], 0.0
		if counter.MatchString(series) {
			growth = first - before.values[series]
		}
		if growth > 0 {
			moved++
		}
		number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
		fmt.Fprintf(&test, "      - series: '%s'\n        values: '%s+%sx70'\n", series, number(first), number(growth))
	}
	if moved < 20 {
		t.Errorf("%d series grew in the quiet time, want at least 20", moved)
	}
	test.WriteString("    promql_expr_test:\n")
	for _, minute := range []int{5, 20, 40, 70} {
		// The speed of a test machine says nothing about the rules.
		fmt.Fprintf(&test, "      - {expr: 'ALERTS{alertname!~\"TallygateOverheadHigh|TallygateIntrospectionSlow\"}', eval_time: %dm, exp_samples: []}\n", minute)
	}
	file := filepath.Join(t.TempDir(), "quiet.yaml")
	gatetest.WriteFile(t, file, []byte(test.String()))
	if output, err := exec.CommandContext(t.Context(), "promtool", "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("a quiet hour: %v\n%s", err, output)
	}
}

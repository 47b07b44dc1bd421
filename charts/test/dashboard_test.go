package chart_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	core "k8s.io/api/core/v1"
)

const dashboardFile = "../../deploy/grafana/tallygate.dashboard.json"

// A board is a dashboard as every Grafana imports it; dashboardv2 is for files of Grafana 12 and later.
type board = dashboard.Dashboard //nolint:staticcheck // deprecated for new dashboards, not for this format

func TestDashboard(t *testing.T) {
	want, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	all := render(t, chart, "-f", chart+"/ci/gateway-values.yaml", "--set", "dashboard.enabled=true")
	config := get[*core.ConfigMap](t, all, "ConfigMap/r-tallygate-dashboard")
	if got := config.Data["tallygate.json"]; strings.TrimSpace(got) != strings.TrimSpace(string(want)) {
		t.Errorf("the dashboard differs from that in deploy/grafana: %d bytes, want %d", len(got), len(want))
	}
}

// Grafana's own types for dashboards, panels and queries know each field, with its type. Grafana adds the required
// fields that the file leaves out.
func TestDashboardSchema(t *testing.T) {
	content, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	panels := map[string]variants.PanelcfgConfig{
		"stat": stat.VariantConfig(), "timeseries": timeseries.VariantConfig(), "table": table.VariantConfig(), "heatmap": heatmap.VariantConfig(),
	}
	for _, config := range panels {
		cog.NewRuntime().RegisterPanelcfgVariant(config)
	}
	cog.NewRuntime().RegisterDataqueryVariant(prometheus.VariantConfig())

	for _, fault := range dashboardFaults(content) {
		t.Error(fault)
	}
	var read board
	if err := json.Unmarshal(content, &read); err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, p := range read.Panels {
		switch {
		case p.RowPanel != nil:
		case panels[p.Panel.Type].Identifier == "":
			t.Errorf("the test does not know panels of type %q", p.Panel.Type)
		case len(p.Panel.Targets) == 0:
			t.Errorf("the panel %q has no query", *p.Panel.Title)
		default:
			shown++
		}
	}
	if shown < 30 { // 34 when the test was written
		t.Errorf("%d panels with queries, want at least 30", shown)
	}

	for old, changed := range map[string]string{`"type": "timeseries"`: `"optionz": {}, "type": "timeseries"`, `"schemaVersion": 39`: `"schemaVersion": "39"`, `"expr"`: `"exper"`} {
		broken := strings.Replace(string(content), old, changed, 1)
		if broken == string(content) || len(dashboardFaults([]byte(broken))) == 0 {
			t.Errorf("with %s the types find no fault", changed)
		}
	}
}

// dashboardFaults returns the errors that Grafana's types report for a dashboard, without errors about fields
// that have defaults.
func dashboardFaults(content []byte) (faults []error) {
	var read board
	err := read.UnmarshalJSONStrict(content)
	if err == nil {
		return nil
	}
	var all cog.BuildErrors
	if !errors.As(err, &all) {
		return []error{err}
	}
	for _, fault := range all {
		if fault.Message != "required field is missing from input" {
			faults = append(faults, fault)
		}
	}
	return faults
}

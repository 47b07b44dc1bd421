package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// A dashboard is a dashboard of Grafana, as far as the tests read it.
type dashboard struct {
	Panels     []panel
	Templating struct {
		List []struct {
			Name  string
			Type  string
			Query any
		}
	}
	Annotations struct {
		List []struct{ Name, Expr string }
	}
}

type panel struct {
	Type, Title string
	Grid        struct{ X, Y, W, H int } `json:"gridPos"`
	Targets     []struct{ Expr, LegendFormat string }
	FieldConfig struct {
		Defaults struct {
			Unit       string
			Thresholds thresholds
			Custom     struct{ Stacking struct{ Mode string } }
		}
		Overrides []struct {
			Properties []struct{ Value json.RawMessage }
		}
	}
	Transformations []struct {
		Options struct {
			RenameByName map[string]string
		}
	}
}

type thresholds struct {
	Steps []struct {
		Color string
		Value *float64
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/tallygate.dashboard.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// grafana replaces the variables of the dashboard by their values for All, and Grafana's own variables by a
// window.
func grafana(expression, window string) string {
	return strings.NewReplacer("$__rate_interval", window, "$__range", window, "$__interval", window,
		"$job", ".*", "$instance", ".*", "$partner", ".*", "$api", ".*", "$route", ".*").Replace(expression)
}

// Every query of the dashboard has a result after mixed traffic, so no panel is empty: the name of a metric or
// label that changes makes this test fail. With TALLYGATE_PICTURE set, the test draws docs/dashboard.svg.
func TestDashboard(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	d := readDashboard(t)
	begun := time.Now()
	rounds := 2
	if os.Getenv("TALLYGATE_PICTURE") != "" {
		rounds = 24
	}
	for i := range rounds {
		if i == rounds/2 {
			n.reloadAndEndAStream()
		}
		n.mixedTraffic(i)
		n.issuer.revokeThumbprint([]string{"stranger", "posing", "serving", "web"}[i%4]) // none of them is granted
	}
	n.prometheus.settle()
	if os.Getenv("TALLYGATE_PICTURE") != "" { // first, because rates become empty soon after the traffic
		n.check(os.WriteFile("../../docs/dashboard.svg", drawDashboard(d, n.prometheus, begun), 0o600))
	}
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		moves := false
		for _, target := range p.Targets {
			values := n.values(p, target.Expr, begun)
			if len(values) == 0 {
				t.Errorf("%s: no result of %s", p.Title, target.Expr)
			}
			n.expectLabels(p, target.Expr, target.LegendFormat, begun)
			moves = moves || slices.ContainsFunc(values, func(v float64) bool { return v != 0 && !math.IsNaN(v) })
		}
		if !moves {
			t.Errorf("%s: all values are 0", p.Title)
		}
	}
	n.expectVariables(d)
	n.expectSelectors()
	n.expectConsole("the end", map[string][]string{"/": {"connected"}, "/revocations": {"connected", "complete", "certificate", "tallygate"}})
	for _, a := range d.Annotations.List {
		n.prometheus.query(grafana(a.Expr, "1m")) // fails for a malformed query
	}
	n.check(n.stop())
	n.check(n.issuer.stop())
}

// values returns the values of the query: the values since begun if the panel shows a time, and
// otherwise the present values.
func (n *night) values(p panel, expression string, begun time.Time) (values []float64) {
	n.t.Helper()
	if p.Type == "timeseries" || p.Type == "heatmap" {
		for _, l := range n.prometheus.series(expression, begun) {
			values = append(values, l.values...)
		}
		return values
	}
	for _, s := range n.prometheus.query(grafana(expression, window)) {
		value, err := strconv.ParseFloat(s.Value[1].(string), 64)
		n.check(err)
		values = append(values, value)
	}
	return values
}

// shownLabel matches a label in a legend, or the labels that the outermost sum of a table keeps.
var shownLabel = regexp.MustCompile(`\{\{(\w+)\}\}|^.*?\bby \(([^)]+)\)`)

// expectLabels expects that each label which the panel shows has a value in some result.
func (n *night) expectLabels(p panel, expression, legend string, begun time.Time) {
	n.t.Helper()
	if p.Type == "table" {
		legend = expression
	}
	for _, m := range shownLabel.FindAllStringSubmatch(legend, -1) {
		for label := range strings.SplitSeq(m[1]+m[2], ", ") {
			if !slices.ContainsFunc(n.prometheus.series(expression, begun), func(l line) bool { return l.labels[label] != "" }) {
				n.t.Errorf("%s: no result of %s has the label %s", p.Title, expression, label)
			}
		}
	}
}

// expectVariables expects that each variable of the dashboard has values.
func (n *night) expectVariables(d dashboard) {
	n.t.Helper()
	values := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		query, _ := v.Query.(map[string]any)["query"].(string)
		m := values.FindStringSubmatch(query)
		if m == nil {
			n.t.Errorf("the query of the variable %s is %q, want label_values(…, …)", v.Name, query)
			continue
		}
		if found := n.prometheus.query(grafana(m[1], "1m")); len(found) == 0 || found[0].Metric[m[2]] == "" {
			n.t.Errorf("the variable %s has no values: %s", v.Name, query)
		}
	}
}

// expectSelectors expects that each selector in the rules selects series of the gate, so that no alert waits
// for a metric, a label or a value that does not exist.
func (n *night) expectSelectors() {
	n.t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/tallygate.rules.yaml")
	n.check(err)
	checked := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +expr: .*$`).FindAllString(string(text), -1) {
		for _, selector := range regexp.MustCompile(`\b[a-z_]*:?tallygate_[\w:]+(\{[^}]*\})?`).FindAllString(m, -1) {
			if checked[selector] || selector == "tallygate_security_events_last_success_timestamp_seconds" { // no server of the night sends events
				continue
			}
			checked[selector] = true
			if len(n.prometheus.query(selector)) == 0 {
				n.t.Errorf("the rules use %s, which selects no series", selector)
			}
		}
	}
	if len(checked) < 30 { // 40 when the test was written
		n.t.Errorf("%d selectors in the rules, want at least 30", len(checked))
	}
}

// mixedTraffic sends requests that are granted, that are refused for several reasons, and that fail at the
// API, and makes handshakes that fail, for a second at least.
func (n *night) mixedTraffic(round int) {
	n.t.Helper()
	swell := 6 + int(5*math.Sin(float64(round)/5)) // so that a picture shows something
	for i := range 2 * swell {
		n.granted("northwind", "Bearer "+n.tokens["good"])
		n.granted("borealis", fmt.Sprintf("Bearer opaque-%d-%d", round/4, i%4))
	}
	n.send("-cert", "borealis", "-H", "Authorization: Bearer opaque-0", "GET", "/payments/7")
	for range 1 + round%3 {
		n.send("-cert", "northwind", "-token", "late", "GET", "/accounts/7")
		n.send("-cert", "northwind", "-token", "good", "GET", "/payments/7")
	}
	if round%5 == 1 {
		n.send("-cert", "borealis", "-token", "good", "GET", "/accounts/7")
	}
	n.send("-cert", "northwind", "-token", "good", "GET", "/accounts/7/secrets")
	n.send("-cert", "northwind", "-token", "unknown", "GET", "/accounts/7")
	n.send("-token", "good", "GET", "/accounts/7")
	n.send("-cert", "stranger", "-token", "good", "GET", "/accounts/7")
	n.upstream.behave("reset")
	n.send("-cert", "northwind", "-token", "good", "GET", "/accounts/7")
	n.upstream.behave("echo")
	with(func(s *tls.Config) { s.RootCAs = x509.NewCertPool() })(n.reloading, n.addresses[gate.PartnersListener])
	n.prometheus.scraped()
}

// send sends a request whose answer does not matter.
func (n *night) send(arguments ...string) {
	n.t.Helper()
	n.check(n.call(arguments))
}

// reloadAndEndAStream makes a reload that fails, and two that succeed. The first of these disables a partner
// while a response to it runs, and the second enables it again.
func (n *night) reloadAndEndAStream() {
	n.t.Helper()
	file := filepath.Join(n.dir, "gate.yaml")
	good, err := os.ReadFile(file)
	n.check(err)
	n.replace("gate.yaml", append(slices.Clone(good), "nonsense: true\n"...))
	n.await("failed", 1)

	n.upstream.behave("flood")
	defer n.upstream.behave("echo")
	transport := &http.Transport{TLSClientConfig: n.client("borealis")}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(accountRequest(n.t.Context(), n.addresses["partners"], n.tokens["sync"]))
	n.check(err)
	defer func() { _ = answer.Body.Close() }()
	gatetest.Eventually(n.t, "a request under way, as Prometheus sees it", func() bool {
		return len(n.prometheus.query(`tallygate_requests_in_flight{listener="partners"} > 0`)) > 0
	})
	n.replace("gate.yaml", bytes.Replace(good, []byte("name: borealis\n"), []byte("name: borealis\n      disabled: true\n"), 1))
	n.await("ok", 1)
	if read, err := io.Copy(io.Discard, answer.Body); err == nil || answer.StatusCode != http.StatusOK {
		n.t.Errorf("the stream ended after %d bytes, status %d, without an error", read, answer.StatusCode)
	}
	n.replace("gate.yaml", good)
	n.await("ok", 2)
}

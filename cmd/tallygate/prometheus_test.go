package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// A prometheusServer is a process that scrapes a gate once a second and evaluates rules twice a second.
type prometheusServer struct {
	t   *testing.T
	url string
}

// startPrometheus runs Prometheus on the gate and the issuer at the addresses of their admin listeners, with the
// rules, until the test ends.
func startPrometheus(t *testing.T, gate, issuer, rules string) *prometheusServer {
	t.Helper()
	gatetest.NeedPrograms(t, "prometheus")
	dir := t.TempDir()
	gatetest.WriteFile(t, filepath.Join(dir, "rules.yaml"), []byte(rules))
	gatetest.WriteFile(t, filepath.Join(dir, "prometheus.yaml"), fmt.Appendf(nil, `
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}
rule_files: [rules.yaml]
scrape_configs:
  - {job_name: tallygate, static_configs: [{targets: ["%s"]}]}
  - {job_name: tallygate-issuer, static_configs: [{targets: ["%s"]}]}
`, gate, issuer))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	process := exec.Command("prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address="+address)
	log := &gatetest.Log{}
	process.Dir, process.Stderr, process.Env = dir, log, append(os.Environ(), "GOMAXPROCS=1")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
		if t.Failed() {
			t.Logf("Prometheus:\n%s", log)
		}
	})
	p := &prometheusServer{t, "http://" + address}
	gatetest.Eventually(t, "Prometheus is ready", func() bool {
		answer, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return p
}

// get decodes the data of an answer of Prometheus' API into data.
func (p *prometheusServer) get(path string, data any) {
	p.t.Helper()
	answer, err := http.Get(p.url + "/api/v1/" + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	whole := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(answer.Body).Decode(&whole); err != nil || whole.Error != "" {
		p.t.Fatalf("Prometheus answers %s with %s %v", path, whole.Error, err)
	}
}

// A sample is a value of an instant query.
type sample struct {
	Metric map[string]string
	Value  [2]any // the time and the value as text
}

// query returns the result of an instant query.
func (p *prometheusServer) query(expression string) []sample {
	p.t.Helper()
	var data struct{ Result []sample }
	p.get("query?query="+url.QueryEscape(expression), &data)
	return data.Result
}

// settle waits until the gate was scraped and, after that, each rule was evaluated twice, since a rule may
// use the result of a rule that is evaluated later.
func (p *prometheusServer) settle() {
	p.t.Helper()
	p.scraped()
	for range 2 {
		p.after("evaluation of all rules", func() (oldest time.Time) {
			var data struct {
				Groups []struct{ LastEvaluation time.Time }
			}
			p.get("rules", &data)
			for i, g := range data.Groups {
				if i == 0 || g.LastEvaluation.Before(oldest) {
					oldest = g.LastEvaluation
				}
			}
			return oldest
		})
	}
}

// scraped waits until the gate and the issuer were scraped.
func (p *prometheusServer) scraped() {
	p.t.Helper()
	p.after("scrape", func() (oldest time.Time) {
		var data struct {
			ActiveTargets []struct{ LastScrape time.Time }
		}
		p.get("targets?state=active", &data)
		for i, target := range data.ActiveTargets {
			if i == 0 || target.LastScrape.Before(oldest) {
				oldest = target.LastScrape
			}
		}
		return oldest
	})
}

// after waits until last returns a time after the call of after.
func (p *prometheusServer) after(what string, last func() time.Time) {
	p.t.Helper()
	now := time.Now()
	gatetest.Eventually(p.t, what, func() bool { time.Sleep(50 * time.Millisecond); return last().After(now) })
}

// An alert is an alert that fires or is pending.
type alert struct {
	Labels, Annotations map[string]string
	State               string
}

// String returns the name of a and its labels.
func (a alert) String() string {
	words := []string{a.Labels["alertname"]}
	for _, label := range []string{"partner", "api", "issuer", "name"} {
		if value := a.Labels[label]; value != "" {
			words = append(words, value)
		}
	}
	return strings.Join(words, " ")
}

// alerts returns the alerts that fire or are pending, sorted by [alert.String].
func (p *prometheusServer) alerts() []alert {
	p.t.Helper()
	var data struct{ Alerts []alert }
	p.get("alerts", &data)
	slices.SortFunc(data.Alerts, func(a, b alert) int { return strings.Compare(a.String(), b.String()) })
	return data.Alerts
}

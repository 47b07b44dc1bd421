package main

import (
	"fmt"
	"math"
)

// A figure is a number that tallygate is held to.
type figure struct {
	title     string
	scenario  string
	of, over  string // subjects; the ratio of the first to the second, or the first alone
	number    func(measurement) float64
	must, aim float64
}

var figures = []figure{
	{"CPU per request ÷ nginx (mTLS only), ES256", "keep-alive-es256", "tallygate", "nginx", measurement.cpu, 1.9, 1.0},
	{"CPU per request ÷ HAProxy with the same checks, ES256", "keep-alive-es256", "tallygate", "haproxy", measurement.cpu, 0.30, 0.15},
	{"CPU per request ÷ HAProxy with the same checks, RS256", "keep-alive-rs256", "tallygate", "haproxy", measurement.cpu, 0.60, 0.30},
	{"CPU per request ÷ Apache with mod_oauth2, ES256", "keep-alive-es256", "tallygate", "apache", measurement.cpu, 0.07, 0.035},
	{"CPU per request with a token never seen ÷ HAProxy, ES256", "never-seen", "tallygate", "haproxy", measurement.cpu, 0.85, 0.6},
	{"CPU per full handshake ÷ nginx", "handshake-full", "tallygate", "nginx", measurement.cpu, 0.55, 0.45},
	{"p99 at 200 requests/s ÷ HAProxy", "latency-200", "tallygate", "haproxy", measurement.p99, 1.1, 0.9},
	{"KiB per idle mTLS connection", "idle", "tallygate", "", measurement.weight, 26, 18},
	{"CPU per request with 100,000 applications and tokens ÷ with 100", "growth", "tallygate, " + applications(100_000), "tallygate, " + applications(100), measurement.cpu, 1.15, 1.05},
}

// value returns the figure, NaN when it was not measured.
func (f figure) value(r results) float64 {
	if f.over == "" {
		return r.median(f.scenario, f.of, f.number)
	}
	return r.ratio(f.scenario, f.of, f.over, f.number)
}

// verdict says what the value is worth.
func (f figure) verdict(value float64) string {
	switch {
	case math.IsNaN(value):
		return "not measured"
	case value <= f.aim:
		return "aim reached"
	case value <= f.must:
		return "held"
	}
	return "**not held**"
}

// number prints a figure as precisely as it means something.
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

package main

import (
	"fmt"
	"math"
)

// A figure compares tallygate with another subject.
type figure struct {
	title    string
	scenario string
	of, over string // subjects: the figure is the ratio of the first to the second, or the first alone
	number   func(measurement) float64
}

var figures = []figure{
	{"CPU per request ÷ nginx (mTLS only), ES256", "keep-alive-es256", "tallygate", "nginx", measurement.cpu},
	{"CPU per request ÷ HAProxy with the same checks, ES256", "keep-alive-es256", "tallygate", "haproxy", measurement.cpu},
	{"CPU per request ÷ HAProxy with the same checks, RS256", "keep-alive-rs256", "tallygate", "haproxy", measurement.cpu},
	{"CPU per request ÷ Apache with mod_oauth2, ES256", "keep-alive-es256", "tallygate", "apache", measurement.cpu},
	{"CPU per request with a token never seen ÷ HAProxy, ES256", "never-seen", "tallygate", "haproxy", measurement.cpu},
	{"CPU per full handshake ÷ nginx", "handshake-full", "tallygate", "nginx", measurement.cpu},
	{"p99 at 200 requests/s ÷ HAProxy", "latency-200", "tallygate", "haproxy", measurement.p99},
	{"KiB per idle mTLS connection", "idle", "tallygate", "", measurement.weight},
	{"CPU per request with 100,000 applications and tokens ÷ with 100", "growth", "tallygate, " + applications(100_000), "tallygate, " + applications(100), measurement.cpu},
}

// value returns the figure, NaN if it was not measured.
func (f figure) value(r results) float64 {
	if f.over == "" {
		return r.median(f.scenario, f.of, f.number)
	}
	return r.ratio(f.scenario, f.of, f.over, f.number)
}

// number prints a figure with its significant digits.
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

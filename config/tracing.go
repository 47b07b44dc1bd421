package config

import (
	"errors"
	"strconv"
	"strings"
)

// Tracing says where the spans of requests go: to a collector that takes OTLP over HTTP. Values that the
// file does not set come from the variables of OpenTelemetry, OTEL_EXPORTER_OTLP_ENDPOINT and others. If
// neither names a collector, there are no spans.
type Tracing struct {
	// Endpoint is the URL of the collector, to which /v1/traces is added. Without Endpoint,
	// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT applies.
	Endpoint *URL `yaml:"endpoint"`
	// Sample is the part of the traces that is recorded. A trace that a trusted caller began is recorded if
	// the caller records it. Without Sample, OTEL_TRACES_SAMPLER applies. Without both, every trace is
	// recorded.
	Sample *Ratio `yaml:"sample"`
	Trust  []Path `yaml:"trust"` // PEM files with anchors for the collector; default: OTEL_EXPORTER_OTLP_CERTIFICATE, or the anchors of the system
}

// Ratio is a part of a whole, from 0 to 1.
type Ratio float64

// UnmarshalText reads a number from 0 to 1.
func (r *Ratio) UnmarshalText(text []byte) error {
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil || strings.Trim(string(text), "0123456789.eE+-") != "" || n < 0 || n > 1 { // neither NaN nor hexadecimal
		return errors.New("expected a number from 0 to 1, such as 0.01")
	}
	*r = Ratio(n)
	return nil
}

func (k *checker) tracing() {
	t := &k.config.Tracing
	notEmpty(k, "tracing.trust", t.Trust, "trusts nothing; leave it out for the system's anchors")
	k.files("tracing.trust", t.Trust)
	if t.Endpoint == nil {
		return
	}
	if t.Endpoint.RawQuery != "" {
		k.fault("tracing.endpoint", "must have no query: /v1/traces is added to it")
	}
	if t.Endpoint.Scheme == "http" && len(t.Trust) > 0 {
		k.fault("tracing.trust", "has no effect: the endpoint is not https")
	}
}

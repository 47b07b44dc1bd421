package issuer

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has the issuer's metrics. A client becomes the value of a label only after it has
// authenticated, so the configuration bounds the number of series.
type metrics struct {
	issued *prometheus.CounterVec // issued tokens, by client and binding
	errors *prometheus.CounterVec // error responses, by error code

	introspections *prometheus.CounterVec // introspection requests, by outcome

	keysReloaded prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_issuer_tokens_issued_total",
			Help: "Access tokens issued, by client and binding: x5t#S256, jkt, both or none.",
		}, []string{"client", "binding"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_issuer_token_errors_total",
			Help: "Token requests refused, by error code (RFC 6749 section 5.2).",
		}, []string{"error"}),
		introspections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_issuer_introspections_total",
			Help: "Introspection requests, by outcome: active, inactive or error.",
		}, []string{"outcome"}),
		keysReloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tallygate_signing_keys_last_reload_successful",
			Help: "Whether the last refresh of the issuer's signing keys (reading changed files, rotation) succeeded: 1 or 0.",
		}),
	}
	// Every series is created with 0, so that an alert on an increase also sees the first error.
	for _, f := range []fault{serverError, invalidRequest, invalidClient, invalidScope, invalidTarget, accessDenied, unauthorizedClient, unsupportedGrantType, temporarilyUnavailable} {
		m.errors.WithLabelValues(faults[f].code)
	}
	for _, outcome := range []string{"active", "inactive", "error"} {
		m.introspections.WithLabelValues(outcome)
	}
	for _, c := range []prometheus.Collector{m.issued, m.errors, m.introspections, m.keysReloaded} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering issuer metrics: %w", err)
		}
	}
	return m, nil
}

package issuer

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics holds what the issuer counts. Clients are labels only once they have
// authenticated, so the configuration bounds the series.
type metrics struct {
	issued *prometheus.CounterVec // by client and binding
	errors *prometheus.CounterVec // by error

	introspections *prometheus.CounterVec // by outcome

	keysReloaded prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_issuer_tokens_issued_total",
			Help: "Access tokens issued, by client and by what they are bound to.",
		}, []string{"client", "binding"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_issuer_token_errors_total",
			Help: "Requests that the token endpoint refused, by error code (RFC 6749 section 5.2).",
		}, []string{"error"}),
		introspections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_issuer_introspections_total",
			Help: "Requests at the introspection endpoint, by outcome: active, inactive or error.",
		}, []string{"outcome"}),
		keysReloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tallygate_signing_keys_last_reload_successful",
			Help: "Whether the last look at the issuer's signing keys could do what was due, read changed files or rotate: 1 or 0.",
		}),
	}
	// Present from the start, so that an alert on an increase sees the first one.
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

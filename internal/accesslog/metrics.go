package accesslog

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/history"
	"github.com/tallygate/tallygate/policy"
)

// Metrics are the metrics of requests. The Recorders of all configurations share one Metrics, so that
// a reload resets no count.
type Metrics struct {
	// History, if not nil, remembers the requests of the last hour for the console. It must be set before the
	// first request.
	History *history.History

	requests          *prometheus.CounterVec
	decisions         *prometheus.CounterVec
	failures          *prometheus.CounterVec
	streamsTerminated *prometheus.CounterVec
	duration          *prometheus.HistogramVec
	overhead          *prometheus.HistogramVec
	allowed           prometheus.Observer // overhead of granted requests
	upstream          *prometheus.HistogramVec
	clientCertificate *prometheus.GaugeVec
}

// NewMetrics returns Metrics and registers them with registerer.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	// Buckets for whole requests: from 1 ms, for an upstream on the same host, to the default
	// upstream timeout, 30 s.
	whole := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	// Buckets for decisions, which take microseconds. The default buckets of Prometheus begin at 5
	// ms.
	own := []float64{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, .1, .25, 1}
	create := promauto.With(registerer)
	m := &Metrics{
		requests: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_requests_total", Help: "Requests that ended, by partner, API, route and status code of the response.",
		}, []string{"partner", "api", "route", "code"}),
		decisions: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_decisions_total", Help: "Decisions, one for each request, by partner, API, outcome (allow, deny, error) and reason.",
		}, []string{"partner", "api", "decision", "reason"}),
		failures: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_upstream_errors_total", Help: "Granted requests that failed afterwards, by API and cause: the upstream (upstream_...), the client (client_...), or a body_too_large.",
		}, []string{"api", "reason"}),
		streamsTerminated: create.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_streams_ended_total", Help: "Running requests that the gate ended, by the reason for which it would refuse them now, or stopping or upstream_changed.",
		}, []string{"reason"}),
		duration: create.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tallygate_request_duration_seconds", Help: "Time from the header of a request to the end of its response, by API, route and class of the status code.", Buckets: whole,
		}, []string{"api", "route", "code_class"}),
		overhead: create.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tallygate_overhead_duration_seconds", Help: "Time from the header of a request to the decision about it, by outcome.", Buckets: own,
		}, []string{"decision"}),
		upstream: create.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tallygate_upstream_request_duration_seconds", Help: "Time from the decision to the end of the upstream's response, by API and route.", Buckets: whole,
		}, []string{"api", "route"}),
		clientCertificate: create.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallygate_client_certificate_not_after_timestamp_seconds", Help: "Unix time at which the client certificate of a partner's last granted request ends.",
		}, []string{"partner"}),
	}
	m.allowed = m.overhead.WithLabelValues(outcome(access.Granted))
	m.createAPISeries(policy.NoAPI)
	for _, reason := range access.Reasons() {
		if reason != access.Granted {
			m.streamsTerminated.WithLabelValues(reason.String())
			m.overhead.WithLabelValues(outcome(reason))
		}
	}
	m.streamsTerminated.WithLabelValues(Stopping)
	m.streamsTerminated.WithLabelValues(UpstreamChanged)
	return m
}

// outcome returns the value of the label decision: allow, deny, or error if the gate could not decide.
func outcome(r access.Reason) string {
	switch {
	case r == access.Granted:
		return "allow"
	case r.Status() >= 500:
		return "error"
	default:
		return "deny"
	}
}

// count counts a request at its end. No other function counts requests.
func (m *Metrics) count(e *Entry, s *routeMetrics) {
	reason := e.Decision.Reason
	s.statusCount(e.Status).Inc()
	observe(s.duration[class(e.Status)], e.Duration, e.TraceID)
	if reason != access.Granted {
		m.decisions.WithLabelValues(e.Partner(), e.API, outcome(reason), reason.String()).Inc()
		observe(m.overhead.WithLabelValues(outcome(reason)), e.Overhead, e.TraceID)
		return
	}
	s.granted.Inc()
	observe(m.allowed, e.Overhead, e.TraceID)
	s.upstream.Observe((e.Duration - e.Overhead).Seconds())
	if e.Certificate != nil { // a preflight has no certificate
		s.certificate.Set(float64(e.Certificate.Leaf.NotAfter.Unix()))
	}
	if e.TerminatedBy != "" {
		m.streamsTerminated.WithLabelValues(e.TerminatedBy).Inc()
	}
	if e.Failure != NoFailure {
		m.failures.WithLabelValues(e.API, e.Failure.String()).Inc()
	}
}

// observe adds d to a histogram, with the trace as the exemplar if there is a trace.
func observe(h prometheus.Observer, d time.Duration, traceID string) {
	if traceID == "" {
		h.Observe(d.Seconds())
		return
	}
	h.(prometheus.ExemplarObserver).ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": traceID})
}

// classes are the values of the label code_class.
var classes = [...]string{"other", "2xx", "3xx", "4xx", "5xx"}

// class returns the index of status in classes.
func class(status int) int {
	if status < 200 || status > 599 {
		return 0
	}
	return status/100 - 1
}

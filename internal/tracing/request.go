package tracing

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/validate"
)

// A Step is a part of the decision that has a span of its own.
type Step uint8

// The steps.
const (
	Token  Step = iota // validation, with calls to an authorization server
	Policy             // partner, API and route
	steps
)

var stepNames = [steps]string{Token: "token", Policy: "policy"}

// A Request collects the times of one request, of which it makes spans when the request ends: whose trace the
// request belongs to is known only after the decision. A nil Request collects nothing.
// Only the goroutine of the handler uses a Request.
type Request struct {
	tracer    *Tracer
	request   *http.Request
	started   time.Time
	handshake *mtls.Handshake // nil unless the request is the first of its connection
	times     [steps]struct{ began, ended time.Time }
	calls     validate.Calls
	scope     context.Context // has span, as the parent of further spans
	span      trace.Span      // the span of the request; nil until begin
	upstream  trace.Span      // the span of the request to the upstream; nil if no request was sent there
}

// Start returns the Request for r, which began at started.
func (t *Tracer) Start(r *http.Request, started time.Time) *Request {
	if t == nil {
		return nil
	}
	return &Request{tracer: t, request: r, started: started, handshake: mtls.TakeHandshake(r)}
}

// Begin notes that step begins now.
func (r *Request) Begin(step Step) {
	if r != nil {
		r.times[step].began = time.Now()
	}
}

// End notes that step ends now.
func (r *Request) End(step Step) {
	if r != nil {
		r.times[step].ended = time.Now()
	}
}

// Calls returns the list to which the validation of the token adds its calls to authorization servers.
func (r *Request) Calls() *validate.Calls {
	if r == nil {
		return nil
	}
	return &r.calls
}

// Parent is the trace context that a caller sent.
type Parent struct {
	trace.SpanContext
	Trusted bool // the trace of the caller goes on; otherwise the span only has a link to it
}

// Forward begins the span of the request to the upstream, now, and returns its traceparent (W3C Trace Context
// section 3.2), also for a trace that is not recorded. For a nil Request it returns "".
func (r *Request) Forward(parent Parent) string {
	if r == nil {
		return ""
	}
	r.begin(parent)
	_, r.upstream = r.tracer.Tracer.Start(r.scope, "upstream", trace.WithSpanKind(trace.SpanKindClient))
	c := r.upstream.SpanContext()
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}

// begin begins the span of the request, unless it has begun.
func (r *Request) begin(parent Parent) {
	if r.span != nil {
		return
	}
	scope := context.Background()
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.started)}
	switch {
	case !parent.IsValid():
	case parent.Trusted:
		scope = trace.ContextWithRemoteSpanContext(scope, parent.SpanContext)
	default:
		// The caller chooses the text of tracestate, which is not parsed for a link.
		options = append(options, trace.WithLinks(trace.Link{SpanContext: parent.WithTraceState(trace.TraceState{})}))
	}
	r.scope, r.span = r.tracer.Tracer.Start(scope, "request", options...)
}

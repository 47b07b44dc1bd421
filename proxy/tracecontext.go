package proxy

import (
	"cmp"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/tracing"
)

// The fields of a trace context, as net/http spells them. The gate sends them in lower case, as both W3C
// recommendations ask.
const (
	traceparent = "Traceparent" // W3C Trace Context section 3.2
	tracestate  = "Tracestate"  // W3C Trace Context section 3.3
	baggageName = "Baggage"     // W3C Baggage section 3.2
)

// The bounds of a passed trace context, over all lines of a field. W3C Trace Context section 3.3.1.5 asks for
// 512 characters of tracestate at least, and W3C Baggage section 3.3.2 for 8192 bytes of baggage.
const (
	maxTracestate = 1 << 10
	maxBaggage    = 8 << 10
)

// trustedContexts returns the names of the partners whose trace context is passed on.
func trustedContexts(cfg *config.Config) map[string]bool {
	trusted := make(map[string]bool)
	for i := range cfg.Partners.List {
		if p := &cfg.Partners.List[i]; p.TraceContext == config.TrustedTraceContext {
			trusted[string(p.Name)] = true
		}
	}
	return trusted
}

// A traceContext is the valid part of the trace context that a caller sent.
type traceContext struct {
	span   trace.SpanContext // not valid if the caller sent no valid traceparent
	parent string            // the value of traceparent; "" if span is not valid
	state  []string          // the lines of tracestate; nil without a valid traceparent
}

// traceContextOf returns the trace context of r. A malformed field counts as absent, and so does a field that
// Connection names. Without a valid traceparent, tracestate has no meaning (W3C Trace Context section 3.3).
func traceContextOf(r *http.Request) traceContext {
	var c traceContext
	lines := r.Header[traceparent]
	if len(lines) == 1 && !isNamed(r, traceparent) {
		c.span = parseTraceparent(lines[0])
	}
	if c.span.IsValid() {
		// A later version of the field becomes version 00, the version that the gate knows.
		c.parent = "00" + lines[0][2:traceparentLength]
		if joined, ok := boundedList(r, tracestate, maxTracestate); ok {
			if state, err := trace.ParseTraceState(joined); err == nil {
				c.span, c.state = c.span.WithTraceState(state), r.Header[tracestate]
			}
		}
	}
	return c
}

// baggageOf returns the lines of the baggage of r. Malformed baggage counts as absent, and so does baggage that
// Connection names. It is parsed only for a trusted caller, because no other baggage is used.
func baggageOf(r *http.Request) []string {
	if joined, ok := boundedList(r, baggageName, maxBaggage); ok {
		if _, err := baggage.Parse(joined); err == nil {
			return r.Header[baggageName]
		}
	}
	return nil
}

// appendTraceContext appends the trace context for the upstream to fields: the context of a trusted caller, or
// the context of the gate's own span.
func (x *exchange) appendTraceContext(fields []http1.Field) []http1.Field {
	trusted := x.proxy.trustsContext[x.Decision.Partner]
	if x.Trace == nil && !trusted {
		return fields
	}
	sent := traceContextOf(x.Request)
	own := x.Trace.Forward(tracing.Parent{SpanContext: sent.span, Trusted: trusted})
	if !trusted {
		return appendTraceFields(fields, own, nil, nil)
	}
	return appendTraceFields(fields, cmp.Or(own, sent.parent), sent.state, baggageOf(x.Request))
}

// finishTrace ends the spans of x, which is recorded as e, and returns the id of its trace, or "" if no trace is
// recorded. For a refused request, the holder of the accepted certificate decides whether the trace of the caller
// goes on, whatever token came.
func (x *exchange) finishTrace(e *accesslog.Entry) string {
	trusted := x.Certificate != nil && x.proxy.trustsContext[e.Caller.Partner]
	return x.Trace.Finish(e, tracing.Parent{SpanContext: traceContextOf(x.Request).span, Trusted: trusted})
}

// appendTraceFields appends a trace context to fields. parent is the value of traceparent, or "" without a
// traceparent. state and baggageLines are the lines of the other fields.
func appendTraceFields(fields []http1.Field, parent string, state, baggageLines []string) []http1.Field {
	if parent != "" {
		fields = append(fields, http1.Field{Name: "traceparent", Value: parent})
		for _, line := range state {
			fields = append(fields, http1.Field{Name: "tracestate", Value: line})
		}
	}
	for _, line := range baggageLines {
		fields = append(fields, http1.Field{Name: "baggage", Value: line})
	}
	return fields
}

// boundedList returns the lines of a field with a comma-separated list as one text. It returns false for an
// absent field, for a field of more than limit bytes, and for a field that Connection names.
func boundedList(r *http.Request, name string, limit int) (string, bool) {
	lines := r.Header[name]
	if len(lines) == 0 || isNamed(r, name) {
		return "", false
	}
	size := len(lines) - 1
	for _, line := range lines {
		size += len(line)
	}
	return strings.Join(lines, ","), size <= limit
}

// isNamed reports whether Connection names the field with this name, so that the field is meant for the gate
// alone (RFC 9110 section 7.6.1).
func isNamed(r *http.Request, name string) bool {
	return http1.ListsHaveToken(r.Header["Connection"], name)
}

// traceparentLength is the length of version 00: version, trace id, parent id and flags.
const traceparentLength = len("00-") + 32 + len("-") + 16 + len("-") + 2

// parseTraceparent returns the span context in a traceparent. For a malformed value, the result is not valid.
// A value of a later version may be longer, and is read as far as version 00 goes (W3C Trace Context section
// 3.2.4).
func parseTraceparent(s string) trace.SpanContext {
	version := ""
	if len(s) >= traceparentLength {
		version = s[:2]
	}
	switch {
	case !isLowerHex(version), version == "ff", s[2] != '-', s[35] != '-', s[52] != '-',
		len(s) > traceparentLength && (version == "00" || s[traceparentLength] != '-'), len(s) > maxTracestate, !isLowerHex(s[53:55]):
		return trace.SpanContext{}
	}
	id, noID := trace.TraceIDFromHex(s[3:35]) // refuses upper case, and an id of zeros
	span, noSpan := trace.SpanIDFromHex(s[36:52])
	if noID != nil || noSpan != nil {
		return trace.SpanContext{}
	}
	sampled := trace.TraceFlags(0).WithSampled(strings.ContainsRune("13579bdf", rune(s[54])))
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: sampled, Remote: true})
}

// isLowerHex reports whether s is not empty and has only lower-case hexadecimal digits.
func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

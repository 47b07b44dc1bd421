package tracing

import (
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/accesslog"
)

// The attributes for which OpenTelemetry has no name.
const (
	reasonKey    = attribute.Key("tallygate.reason")
	partnerKey   = attribute.Key("tallygate.partner")
	clientIDKey  = attribute.Key("tallygate.client_id")
	apiKey       = attribute.Key("tallygate.api")
	routeKey     = attribute.Key("tallygate.route")
	issuerKey    = attribute.Key("tallygate.issuer")
	requestIDKey = attribute.Key("tallygate.request_id")
)

// Finish ends the spans of r, which must not be nil and is recorded as e. parent is ignored if Forward was
// called. Finish returns the trace id, or "" if the trace is not recorded.
func (r *Request) Finish(e *accesslog.Entry, parent Parent) (traceID string) {
	r.begin(parent)
	ended := e.Started.Add(e.Duration)
	if r.span.IsRecording() {
		traceID = r.span.SpanContext().TraceID().String()
		r.addSteps(e)
		r.endUpstream(e, ended)
		r.describe(e)
	}
	r.span.End(trace.WithTimestamp(ended))
	return traceID
}

// addSteps adds the spans of what happened before the decision.
func (r *Request) addSteps(e *accesslog.Entry) {
	add := func(name string, began, ended time.Time, attributes ...attribute.KeyValue) {
		_, span := r.tracer.Tracer.Start(r.scope, name, trace.WithTimestamp(began), trace.WithAttributes(attributes...))
		span.End(trace.WithTimestamp(ended))
	}
	if h := r.handshake; h != nil && r.request.TLS != nil {
		add("tls", h.Began, h.Ended, tlsAttributes(r.request.TLS)...)
	}
	for step, times := range r.times {
		if times.began.IsZero() {
			continue
		}
		var attributes []attribute.KeyValue
		if Step(step) == Token && e.Decision.Server != "" {
			attributes = append(attributes, issuerKey.String(e.Decision.Server))
		}
		add(stepNames[step], times.began, times.ended, attributes...)
	}
	for _, call := range r.calls {
		_, span := r.tracer.Tracer.Start(r.scope, "introspection", trace.WithTimestamp(call.Began), trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(issuerKey.String(call.Server)))
		if call.Failed {
			span.SetStatus(codes.Error, "")
			span.SetAttributes(semconv.ErrorTypeKey.String("no_valid_response"))
		}
		span.End(trace.WithTimestamp(call.Ended))
	}
}

// tlsAttributes returns the attributes of a handshake with that result.
func tlsAttributes(state *tls.ConnectionState) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.TLSProtocolVersion(strings.TrimPrefix(tls.VersionName(state.Version), "TLS ")),
		semconv.TLSCipher(tls.CipherSuiteName(state.CipherSuite)),
		semconv.TLSResumed(state.DidResume),
	}
}

// endUpstream ends the span of the request to the upstream.
func (r *Request) endUpstream(e *accesslog.Entry, ended time.Time) {
	if r.upstream == nil {
		return
	}
	to := r.tracer.upstreams[e.API]
	attributes := append(make([]attribute.KeyValue, 0, 6), methodOf(e), apiKey.String(e.API), semconv.ServerAddress(to.host))
	if to.port > 0 {
		attributes = append(attributes, semconv.ServerPort(to.port))
	}
	switch {
	case e.Failure != accesslog.NoFailure:
		r.upstream.SetStatus(codes.Error, "")
		attributes = append(attributes, semconv.ErrorTypeKey.String(e.Failure.String()))
	case e.Status >= 400: // also a 4xx is an error for the sender of the request
		r.upstream.SetStatus(codes.Error, "")
		attributes = append(attributes, semconv.HTTPResponseStatusCode(e.Status), semconv.ErrorTypeKey.String(strconv.Itoa(e.Status)))
	default:
		attributes = append(attributes, semconv.HTTPResponseStatusCode(e.Status))
	}
	r.upstream.SetAttributes(attributes...)
	r.upstream.End(trace.WithTimestamp(ended))
}

// describe sets the name, the attributes and the status of the span of the request. The names are those of the
// semantic conventions for HTTP; url.query is left out, because a query may have secrets.
func (r *Request) describe(e *accesslog.Entry) {
	d, method := e.Decision, methodOf(e)
	r.span.SetName(method.Value.AsString() + " " + e.Route)
	attributes := append(make([]attribute.KeyValue, 0, 20),
		method, semconv.URLScheme("https"), semconv.HTTPRoute(e.Route), semconv.ServerAddress(text(e.Host)),
		semconv.NetworkProtocolVersion(version(r.request)),
		reasonKey.String(d.Reason.String()), partnerKey.String(e.Partner()), clientIDKey.String(text(d.ClientID)),
		apiKey.String(e.API), routeKey.String(e.Route), requestIDKey.String(e.RequestID),
	)
	if e.Status != 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(e.Status))
	}
	if d.Server != "" {
		attributes = append(attributes, issuerKey.String(d.Server))
	}
	if path := e.Path(r.tracer.paths); path != "" {
		attributes = append(attributes, semconv.URLPath(text(path)))
	}
	if address, _, err := net.SplitHostPort(e.Remote); err == nil {
		attributes = append(attributes, semconv.ClientAddress(address))
	}
	if e.Status >= 500 {
		r.span.SetStatus(codes.Error, "")
		cause := d.Reason.String()
		switch {
		case e.Failure != accesslog.NoFailure:
			cause = e.Failure.String()
		case d.Reason == access.Granted:
			cause = strconv.Itoa(e.Status)
		}
		attributes = append(attributes, semconv.ErrorTypeKey.String(cause))
	}
	r.span.SetAttributes(attributes...)
}

// text returns s as the value of an attribute. s may come from a request, so text bounds it and replaces
// bytes that are not UTF-8: a string that is not UTF-8 would make a whole batch of spans invalid.
func text(s string) string { return strings.ToValidUTF8(access.Truncate(s), "\uFFFD") }

// methods are the methods that the semantic conventions know. Other methods could be any text of a client.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect,
	http.MethodOptions, http.MethodTrace,
}

func methodOf(e *accesslog.Entry) attribute.KeyValue {
	if slices.Contains(methods, e.Method) {
		return semconv.HTTPRequestMethodKey.String(e.Method)
	}
	return semconv.HTTPRequestMethodOther
}

// version returns the version of HTTP in the form of the semantic conventions.
func version(r *http.Request) string {
	if r.ProtoMajor > 1 {
		return strconv.Itoa(r.ProtoMajor)
	}
	return "1." + strconv.Itoa(r.ProtoMinor)
}

// An upstream is the address of an API's upstream.
type upstream struct {
	host string // a host, or the path of a socket
	port int    // 0 for a socket
}

func upstreamsOf(cfg *config.Config) map[string]upstream {
	all := make(map[string]upstream, len(cfg.APIs))
	for i := range cfg.APIs {
		u := cfg.APIs[i].Upstream.URL
		to := upstream{host: u.Hostname()}
		switch port, err := strconv.Atoi(u.Port()); {
		case u.Scheme == "unix":
			to.host = u.Path
		case err == nil:
			to.port = port
		case u.Scheme == "https":
			to.port = 443
		default:
			to.port = 80
		}
		all[string(cfg.APIs[i].Name)] = to
	}
	return all
}

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testotlp"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A tracing gate sends spans to a collector, and introspects opaque tokens at an authorization server.
type tracing struct {
	*reloading
	collector *testotlp.Collector
}

// tracingCanary is in every place of a request that no span may show.
const tracingCanary = "canary0123456789"

func newTracing(t *testing.T, edits ...string) *tracing {
	t.Helper()
	r := &tracing{reloading: newReloading(t)}
	r.collector = testotlp.Start(r.pairs["gate"])
	t.Cleanup(r.collector.Close)
	server := httptest.NewUnstartedServer(http.HandlerFunc(r.introspect))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{r.pairs["gate"].TLS()}}
	server.StartTLS()
	t.Cleanup(server.Close)
	r.check(os.WriteFile(filepath.Join(r.dir, "secret"), []byte(tracingCanary+tracingCanary+tracingCanary), 0o600))
	r.configure(append([]string{
		"tracing: {}", `tracing: {endpoint: "` + r.collector.URL + `", trust: [gate.pem]}`,
		"authorization_servers:\n", "authorization_servers:\n" +
			`  - {name: opaque, issuer: "https://opaque.example.test", audiences: [https://api.example.test], tokens: opaque, connection: {trust: [gate.pem]}, introspection: {endpoint: "` +
			server.URL + `/introspect", client_id: gate, authentication: {method: client_secret_basic, secret_file: secret}}}` + "\n",
	}, edits...)...)
	r.environment = []string{"OTEL_BSP_SCHEDULE_DELAY=10"}
	r.serve()
	return r
}

// introspect answers that a token is active, belongs to northwind and is bound to its certificate. It fails the
// test if a request has a trace context.
func (r *tracing) introspect(w http.ResponseWriter, request *http.Request) {
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		if request.Header[name] != nil {
			r.t.Errorf("the authorization server gets %s", name)
		}
	}
	claims := testpki.Bound("https://opaque.example.test", "https://api.example.test", "northwind-ledger", r.pairs["northwind"], testpki.M{"active": true})
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(claims)
}

// trace sends a request, and returns its spans by name when there are n.
func (r *tracing) trace(n int, transport http.RoundTripper, token string, header ...string) map[string]testotlp.Span {
	r.t.Helper()
	request := accountRequest(r.t.Context(), r.addresses["partners"], token)
	request.URL.RawQuery = "q=" + tracingCanary
	request.Header.Set("Cookie", tracingCanary)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := transport.RoundTrip(request)
	r.check(err)
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	id := answer.Header.Get("X-Request-Id")
	var found map[string]testotlp.Span
	gatetest.Eventually(r.t, fmt.Sprint(n, " spans of request ", id), func() bool {
		for _, line := range r.lines("request") {
			if line["request_id"] == id {
				traceID, _ := line["trace_id"].(string)
				found = testotlp.Trace(r.collector.Spans(), traceID)
			}
		}
		return len(found) >= n
	})
	if len(found) != n {
		r.t.Errorf("%d spans, want %d: %v", len(found), n, found)
	}
	return found
}

// TestTraces follows a granted request, a stolen token and an introspection from the client to the collector. No
// token, query, cookie or secret reaches the collector.
func TestTraces(t *testing.T) {
	t.Parallel()
	for protocol, h2 := range map[string]bool{"1.1": false, "2": true} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := newTracing(t)
			_, ledger := r.visitor("northwind", "good", h2, 0)
			_, sync := r.visitor("borealis", "good", h2, 0)
			const name = "GET /accounts/{id}"

			began := time.Now()
			granted := r.trace(5, ledger, r.tokens["good"])
			server := granted[name]
			attributes := server.Attributes()
			for key, want := range map[string]string{
				"tallygate.reason": "granted", "tallygate.partner": "northwind", "tallygate.client_id": "northwind-ledger", "tallygate.api": "accounts",
				"tallygate.route": "/accounts/{id}", "tallygate.issuer": "partners", "http.response.status_code": "200", "http.route": "/accounts/{id}",
				"network.protocol.version": protocol, "url.path": "", "url.query": "", "error.type": "",
			} {
				if attributes[key] != want {
					t.Errorf("attribute %s = %q, want %q", key, attributes[key], want)
				}
			}
			if server.GetKind() != tracepb.Span_SPAN_KIND_SERVER || len(server.GetParentSpanId()) != 0 || server.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_UNSET {
				t.Errorf("the span of the request = %v, want a root without an error", server)
			}
			for _, child := range []string{"tls", "token", "policy", "upstream"} {
				s := granted[child]
				if !bytes.Equal(s.GetParentSpanId(), server.GetSpanId()) || s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano() || s.GetStartTimeUnixNano() < uint64(began.UnixNano()) {
					t.Errorf("the span %s = %v, want a child of %x that begins after %d", child, s, server.GetSpanId(), began.UnixNano())
				}
			}
			if tls := granted["tls"]; tls.GetEndTimeUnixNano() > server.GetStartTimeUnixNano() {
				t.Errorf("the handshake ends at %d, after the request began, at %d", tls.GetEndTimeUnixNano(), server.GetStartTimeUnixNano())
			}
			received, _ := r.upstream.take()
			if want := fmt.Sprintf("traceparent: 00-%x-%x-01\r\n", server.GetTraceId(), granted["upstream"].GetSpanId()); !bytes.Contains(bytes.ToLower(received), []byte(want)) {
				t.Errorf("the upstream got %s, want %s", received, want)
			}
			if again := r.trace(4, ledger, r.tokens["good"]); again["tls"].Span != nil {
				t.Error("the second request of a connection has a span for its handshake")
			}

			// The link of a caller that is not trusted leads to the caller's trace.
			stolen := r.trace(3, sync, r.tokens["good"], "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate", "x="+tracingCanary)
			attributes = stolen[name].Attributes()
			if attributes["tallygate.reason"] != "bound_to_other" || attributes["tallygate.partner"] != "borealis" || attributes["tallygate.client_id"] != "northwind-ledger" ||
				attributes["http.response.status_code"] != "401" || stolen["token"].Span == nil || stolen["tls"].Span == nil || stolen[name].GetStatus().GetCode() != tracepb.Status_STATUS_CODE_UNSET {
				t.Errorf("the trace of a stolen token = %v", stolen)
			}
			if links := stolen[name].GetLinks(); len(links) != 1 || fmt.Sprintf("%x", links[0].GetTraceId()) != "4bf92f3577b34da6a3ce929d0e0e4736" || links[0].GetTraceState() != "" {
				t.Errorf("links = %v, want a link to the trace of the caller", links)
			}

			asked := r.trace(5, ledger, "opaque-"+tracingCanary)
			call := asked["introspection"]
			if call.GetKind() != tracepb.Span_SPAN_KIND_CLIENT || call.Attributes()["tallygate.issuer"] != "opaque" || !bytes.Equal(call.GetParentSpanId(), asked[name].GetSpanId()) ||
				call.GetStartTimeUnixNano() < asked["token"].GetStartTimeUnixNano() || call.GetEndTimeUnixNano() > asked["token"].GetEndTimeUnixNano() {
				t.Errorf("the span of the introspection = %v", call)
			}
			if cached := r.trace(4, ledger, "opaque-"+tracingCanary); cached["introspection"].Span != nil {
				t.Error("a cached response has a span for an introspection")
			}

			r.upstream.close() // 502
			failed := r.trace(4, ledger, r.tokens["good"])
			if s := failed[name]; s.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR || !strings.HasPrefix(s.Attributes()["error.type"], "upstream_") || s.GetStatus().GetMessage() != "" {
				t.Errorf("the trace of a failed upstream = %v", failed)
			}
			r.expectExemplars()
			r.check(r.stop())
			all, _ := r.collector.Received()
			for _, secret := range append(strings.Split(r.tokens["good"], "."), tracingCanary, "Bearer", "?q=", r.tokens["good"][:20]) {
				if bytes.Contains(all, []byte(secret)) {
					t.Errorf("the collector gets %q", secret)
				}
			}
		})
	}
}

// expectExemplars expects exemplars of both histograms in the OpenMetrics format, with ids of traces that the
// collector has, and no exemplars in the text format.
func (r *tracing) expectExemplars() {
	r.t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+r.addresses["admin"]+"/metrics", nil)
	r.check(err)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	r.check(err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	r.check(err)
	for _, histogram := range []string{"tallygate_request_duration_seconds", "tallygate_overhead_duration_seconds"} {
		found := regexp.MustCompile(histogram+`_bucket\{.*\} \d+ # \{trace_id="([0-9a-f]{32})"\}`).FindAllSubmatch(text, -1)
		if len(found) == 0 {
			r.t.Errorf("%s has no exemplar", histogram)
		}
		for _, m := range found {
			if len(testotlp.Trace(r.collector.Spans(), string(m[1]))) == 0 {
				r.t.Errorf("the exemplar %s is no trace of the collector", m[1])
			}
		}
	}
	_, plain, err := r.admin("/metrics")
	r.check(err)
	if bytes.Contains(plain, []byte("trace_id")) {
		r.t.Error("the text format has exemplars")
	}
}

// A collector that hangs delays neither requests nor the stop, and a reload that names another collector is used
// at once.
func TestTracesOfHangingCollector(t *testing.T) {
	t.Parallel()
	r := newTracing(t)
	next := testotlp.Start(nil)
	defer next.Close()
	hung, release := make(chan struct{}, 1000), make(chan struct{})
	r.collector.Respond(func(_ http.ResponseWriter, request *http.Request) {
		hung <- struct{}{}
		select {
		case <-release:
		case <-request.Context().Done():
		}
	})
	defer close(release)
	visit, _ := r.visitor("northwind", "good", false, 0)
	expectVisit(t, visit, 200, "")
	<-hung
	for range 100 {
		expectVisit(t, visit, 200, "")
	}
	r.configure("tracing: {}", `tracing: {endpoint: "`+next.URL+`"}`)
	r.await("ok", 1)
	expectVisit(t, visit, 200, "")
	next.Wait(t, 4)
	next.Respond(func(_ http.ResponseWriter, request *http.Request) { <-release })
	expectVisit(t, visit, 200, "")
	r.check(r.stop())
}

// The variables of OpenTelemetry work without settings in the file. A fault in a variable ends the start, and
// the error names the variable.
func TestTracesByEnvironment(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	collector := testotlp.Start(r.pairs["gate"])
	defer collector.Close()
	r.configure()
	r.environment = []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_EXPORTER_OTLP_CERTIFICATE=" + filepath.Join(r.dir, "gate.pem"),
		"OTEL_EXPORTER_OTLP_HEADERS=api-key=" + tracingCanary, "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=1.0", "OTEL_SERVICE_NAME=partner-gate",
	}
	r.serve()
	visit, _ := r.visitor("northwind", "good", false, 0)
	expectVisit(t, visit, 200, "")
	r.check(r.stop())
	spans := collector.Wait(t, 5)
	if _, header := collector.Received(); header.Get("Api-Key") != tracingCanary || spans[0].Resource["service.name"] != "partner-gate" || spans[0].Resource["service.version"] == "" {
		t.Errorf("header = %v, resource = %v", header, spans[0].Resource)
	}
	r.environment = append(r.environment, "OTEL_EXPORTER_OTLP_HEADERS="+tracingCanary)
	err := r.start(binary(t), filepath.Join(r.dir, "gate.yaml"))
	if err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_HEADERS: element 1") || strings.Contains(err.Error(), tracingCanary) {
		t.Errorf("start = %v, want a fault of OTEL_EXPORTER_OTLP_HEADERS", err)
	}
	r.process = nil
}

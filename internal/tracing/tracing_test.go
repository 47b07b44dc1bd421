package tracing

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testotlp"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			_ = os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// A bench is a Tracer with its log and metrics.
type bench struct {
	*Tracer
	log     *gatetest.Log
	metrics *Metrics
	lease   *reuse.Lease
}

// newBench returns a Tracer for the collector at url. Spans are sent after 10 ms.
func newBench(t *testing.T, settings config.Tracing) *bench {
	t.Helper()
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	b := &bench{log: &gatetest.Log{}, metrics: NewMetrics(prometheus.NewRegistry()), lease: new(reuse.Pool).Lease()}
	cfg := config.Default()
	cfg.Tracing, cfg.Log.Paths = settings, config.LogAllPaths
	cfg.APIs = []config.API{{Name: "accounts", Upstream: config.Upstream{URL: &config.UpstreamURL{URL: gatetest.URL(t, "https://api.internal").URL}}}}
	var err error
	if b.Tracer, err = New(cfg, Options{Log: slog.New(slog.NewJSONHandler(b.log, nil)), Metrics: b.metrics, Lease: b.lease}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// request records a granted request with spans for the request, the token and the upstream.
func (b *bench) request(edits ...func(*accesslog.Entry)) (traceID string) {
	r := httptest.NewRequest(http.MethodGet, "/accounts/7?secret=canary", nil)
	e := &accesslog.Entry{
		Decision: &access.Decision{Reason: access.Granted, ClientID: "northwind-ledger"}, API: "accounts", Route: "/accounts/{id}",
		Method: "GET", Target: r.RequestURI, Host: "api.example.test", Remote: "192.0.2.1:4711", Started: time.Now(), Duration: time.Millisecond, Status: 200, RequestID: "1",
	}
	for _, edit := range edits {
		edit(e)
	}
	x := b.Start(r, e.Started)
	x.Begin(Token)
	x.End(Token)
	x.Forward(Parent{})
	return x.Finish(e, Parent{})
}

func at(t *testing.T, url string) config.Tracing {
	return config.Tracing{Endpoint: gatetest.URL(t, url)}
}

// spans returns the numbers of exported, failed and dropped spans.
func (b *bench) spans() string {
	return fmt.Sprint(testutil.ToFloat64(b.metrics.exported), testutil.ToFloat64(b.metrics.failed), testutil.ToFloat64(b.metrics.dropped))
}

// A nil Tracer traces nothing.
func TestOff(t *testing.T) {
	var off *Tracer
	if r := off.Start(httptest.NewRequest(http.MethodGet, "/", nil), time.Now()); r != nil {
		t.Errorf("Start = %v, want nil", r)
	}
	var r *Request
	if n := testing.AllocsPerRun(100, func() {
		r.Begin(Token)
		r.End(Token)
		_ = r.Calls()
		_ = r.Forward(Parent{})
	}); n != 0 {
		t.Errorf("a request that is not traced takes %v allocations, want 0", n)
	}
	off.Close()
}

// TestDestination checks which collector is used, and which faults of the environment are errors that do not
// quote a value.
func TestDestination(t *testing.T) {
	dir := t.TempDir()
	testpki.NewCA("Collector Root").Write(dir, "ca")
	ca := filepath.Join(dir, "ca.pem")
	const all, traces = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	for _, tt := range []struct {
		name     string
		endpoint string
		env      []string
		want     string // the URL, "" without a collector, or the error
	}{
		{"nothing", "", nil, ""},
		{"empty variables", "", []string{all, "", traces, " "}, ""},
		{"file", "https://file.internal", nil, "https://file.internal/v1/traces"},
		{"file with a path", "https://file.internal/otlp/", nil, "https://file.internal/otlp/v1/traces"},
		{"variable", "", []string{all, "http://collector:4318"}, "http://collector:4318/v1/traces"},
		{"variable with a path", "", []string{all, "http://collector:4318/otlp/"}, "http://collector:4318/otlp/v1/traces"},
		{"variable for traces", "", []string{all, "http://collector:4318", traces, "https://traces/spans"}, "https://traces/spans"},
		{"file before variable", "https://file.internal", []string{all, "http://collector:4318", traces, "https://traces"}, "https://file.internal/v1/traces"},
		{"disabled", "https://file.internal", []string{"OTEL_SDK_DISABLED", "TRUE"}, ""},
		{"exporter none", "https://file.internal", []string{"OTEL_TRACES_EXPORTER", "none"}, ""},
		{"exporter console", "https://file.internal", []string{"OTEL_TRACES_EXPORTER", "console"}, ""},
		{"exporters", "https://file.internal", []string{"OTEL_TRACES_EXPORTER", "console, otlp"}, "https://file.internal/v1/traces"},
		{"no URL", "", []string{all, "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: expected an http or https URL without user, query and fragment"},
		{"password", "", []string{traces, "https://canary:canary@collector"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: expected an http or https URL without user, query and fragment"},
		{"grpc", "", []string{all, "grpc://canary"}, "OTEL_EXPORTER_OTLP_ENDPOINT: expected an http or https URL without user, query and fragment"},
		{"certificate", "https://file.internal", []string{"OTEL_EXPORTER_OTLP_CERTIFICATE", ca}, "https://file.internal/v1/traces"},
		{"no certificate", "https://file.internal", []string{"OTEL_EXPORTER_OTLP_CERTIFICATE", filepath.Join(dir, "none.pem")}, "reading trust anchors of OTEL_EXPORTER_OTLP_CERTIFICATE: "},
		{"no key", "https://file.internal", []string{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", ca}, "reading the key pair of OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: "},
		{"header", "https://file.internal", []string{"OTEL_EXPORTER_OTLP_HEADERS", "a=b, api-key = x%20y"}, "https://file.internal/v1/traces"},
		{"no header", "https://file.internal", []string{"OTEL_EXPORTER_OTLP_HEADERS", "a=b,canary"}, "OTEL_EXPORTER_OTLP_HEADERS: element 2 is not name=value, with the value percent-encoded"},
		{"header with a space", "https://file.internal", []string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=canary"}, "OTEL_EXPORTER_OTLP_TRACES_HEADERS: element 1 is not"},
		{"header with a line feed", "https://file.internal", []string{"OTEL_EXPORTER_OTLP_HEADERS", "a=canary%0ab"}, "OTEL_EXPORTER_OTLP_HEADERS: element 1 is not"},
		{"header not decodable", "https://file.internal", []string{"OTEL_EXPORTER_OTLP_HEADERS", "a=canary%"}, "OTEL_EXPORTER_OTLP_HEADERS: element 1 is not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i := 0; i < len(tt.env); i += 2 {
				t.Setenv(tt.env[i], tt.env[i+1])
			}
			var settings config.Tracing
			if tt.endpoint != "" {
				settings = at(t, tt.endpoint)
			}
			d, err := destinationOf(settings)
			got := ""
			switch {
			case err != nil:
				got = err.Error()
			case d != nil:
				got = d.url
			}
			if got != tt.want && (err == nil || tt.want == "" || !strings.HasPrefix(got, tt.want)) || strings.Contains(got, "canary") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if noCheck := Check(settings); (noCheck == nil) != (err == nil) {
				t.Errorf("Check = %v, want %v", noCheck, err)
			}
		})
	}
}

// TestExport sends spans over TLS to a collector that an anchor of the configuration has certified, with headers
// and a service name from the environment.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	ca := testpki.NewCA("Collector Root")
	ca.Write(dir, "ca")
	c := testotlp.Start(ca.Leaf("collector", testpki.IP("127.0.0.1"), testpki.Usage(1)))
	defer c.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20key")
	t.Setenv("OTEL_SERVICE_NAME", "partner-gate")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	settings := at(t, c.URL)
	settings.Trust = []config.Path{config.Path(filepath.Join(dir, "ca.pem"))}
	b := newBench(t, settings)
	id := b.request(func(e *accesslog.Entry) { e.Decision.ClientID, e.Host = "a\xffé", strings.Repeat("x", 300) })
	spans := testotlp.Trace(c.Wait(t, 3), id)
	server := spans["GET /accounts/{id}"]
	if server.Span == nil || spans["token"].Span == nil || spans["upstream"].Span == nil {
		t.Fatalf("trace %s has the spans %v", id, spans)
	}
	for name, want := range map[string]string{"service.name": "partner-gate", "deployment.environment.name": "test"} {
		if got := server.Resource[name]; got != want {
			t.Errorf("resource %s = %q, want %q", name, got, want)
		}
	}
	for _, child := range []string{"token", "upstream"} {
		if !bytes.Equal(spans[child].GetParentSpanId(), server.GetSpanId()) {
			t.Errorf("the parent of %s is %x, want %x", child, spans[child].GetParentSpanId(), server.GetSpanId())
		}
	}
	got := server.Attributes()
	for name, want := range map[string]string{
		"http.request.method": "GET", "http.route": "/accounts/{id}", "http.response.status_code": "200", "url.scheme": "https", "url.path": "/accounts/7",
		"client.address": "192.0.2.1", "network.protocol.version": "1.1",
		"tallygate.reason": "granted", "tallygate.api": "accounts", "tallygate.partner": "unknown", "tallygate.request_id": "1",
	} {
		if got[name] != want {
			t.Errorf("attribute %s = %q, want %q", name, got[name], want)
		}
	}
	if client, host := got["tallygate.client_id"], got["server.address"]; client != "a\uFFFDé" || len(host) > 260 {
		t.Errorf("client_id = %q, server.address = %q, want valid UTF-8 of bounded length", client, host)
	}
	to := spans["upstream"].Attributes()
	if to["server.address"] != "api.internal" || to["server.port"] != "443" || to["http.response.status_code"] != "200" {
		t.Errorf("attributes of the upstream = %v", to)
	}
	received, header := c.Received()
	if bytes.Contains(received, []byte("canary")) || header.Get("Api-Key") != "a key" {
		t.Errorf("the spans have the query, or the header is missing: %v", header)
	}
	gatetest.EventuallyEqual(t, "exported, failed and dropped spans", "3 0 0", b.spans)
}

// TestBadCollectors checks that only spans are lost if a collector refuses them, that the log has one line
// about it, and that the log quotes nothing from the collector's responses.
func TestBadCollectors(t *testing.T) {
	tests := map[string]struct {
		respond http.HandlerFunc
		error   string
	}{
		"refuses": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusUnauthorized) }, "status 401"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/canary", http.StatusTemporaryRedirect)
		}, "status 307"},
		"large": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }, "too large"},
		"encoded": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("canary"))
		}, "content encoding"},
		// partial_success {rejected_spans: 3, error_message: "canary"}
		"rejects": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\x0a\x0a\x08\x03\x12\x06canary")) }, "rejected spans: 3"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := testotlp.Start(nil)
			defer c.Close()
			c.Respond(tt.respond)
			b := newBench(t, at(t, c.URL))
			for range 5 {
				b.request()
				b.Tracer.provider.ForceFlush(t.Context())
			}
			gatetest.EventuallyEqual(t, "exported, failed and dropped spans", "0 15 0", b.spans)
			if lines := strings.Count(string(b.log.Bytes()), "spans not exported"); lines != 1 || !strings.Contains(string(b.log.Bytes()), tt.error) || strings.Contains(string(b.log.Bytes()), "canary") {
				t.Errorf("log = %s, want one line with %q", b.log.Bytes(), tt.error)
			}
		})
	}
}

// A malformed response with status 200 is a success, because the collector has taken the spans.
func TestGarbage(t *testing.T) {
	for _, response := range []string{"", "garbage", "\x0a\xff\xff\xff\xff", "\x0a", "\x0a\x00", "\x0a\x02\x10\x01", "\x12\x01x\x0a\x01\x08", strings.Repeat("\x08\x01", 1000)} {
		if n := rejected([]byte(response)); n != 0 {
			t.Errorf("rejected(%q) = %d, want 0", response, n)
		}
	}
}

// TestHangingCollector checks that spans wait in bounded number, that no request waits, and that Close returns.
func TestHangingCollector(t *testing.T) {
	c := testotlp.Start(nil)
	release := make(chan struct{})
	c.Respond(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer c.Close()
	defer close(release)
	b := newBench(t, at(t, c.URL))
	for range maxWaiting { // 3 spans each
		b.request()
	}
	if got, want := b.spans(), fmt.Sprint(0, 0, 2*maxWaiting); got != want {
		t.Errorf("exported, failed and dropped spans = %s, want %s", got, want)
	}
	began := time.Now()
	b.Close()
	if took := time.Since(began); took > flushTimeout+10*time.Second {
		t.Errorf("Close took %s, want about %s", took, flushTimeout)
	}
	gatetest.EventuallyEqual(t, "spans given up", float64(maxWaiting), func() float64 { return testutil.ToFloat64(b.metrics.failed) })
}

// A collector that is busy for a moment gets the spans later.
func TestBusyCollector(t *testing.T) {
	c := testotlp.Start(nil)
	defer c.Close()
	c.Respond(func(w http.ResponseWriter, _ *http.Request) {
		c.Respond(nil)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	b := newBench(t, at(t, c.URL))
	b.request()
	c.Wait(t, 3)
	gatetest.EventuallyEqual(t, "exported, failed and dropped spans", "3 0 0", b.spans)
}

// Close sends the spans that wait, and the release of the lease does the same.
func TestCloseSends(t *testing.T) {
	for _, end := range []func(*bench){func(b *bench) { b.Close() }, func(b *bench) { b.lease.Release() }} {
		c := testotlp.Start(nil)
		b := newBench(t, at(t, c.URL))
		b.request()
		end(b)
		c.Wait(t, 3)
		gatetest.EventuallyEqual(t, "exported, failed and dropped spans", "3 0 0", b.spans)
		c.Close()
	}
}

// TestSampling checks the samplers of the file and of the environment, and that the flag of a trusted parent
// decides.
func TestSampling(t *testing.T) {
	c := testotlp.Start(nil)
	defer c.Close()
	none, half := config.Ratio(0), config.Ratio(0.5)
	for _, tt := range []struct {
		name        string
		sample      *config.Ratio
		env         string
		least, most int
	}{
		{"all", nil, "", 1000, 1000}, {"none", &none, "always_on", 0, 0}, {"half", &half, "always_off", 350, 650}, {"variable", nil, "always_off", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv("OTEL_TRACES_SAMPLER", tt.env)
			}
			settings := at(t, c.URL)
			settings.Sample = tt.sample
			b := newBench(t, settings)
			sampled := 0
			for range 1000 {
				if b.request() != "" {
					sampled++
				}
			}
			if sampled < tt.least || sampled > tt.most {
				t.Errorf("%d of 1000 traces are recorded, want %d to %d", sampled, tt.least, tt.most)
			}
			x := b.Start(httptest.NewRequest(http.MethodGet, "/", nil), time.Now())
			if parent := x.Forward(Parent{}); len(parent) != 55 || strings.HasSuffix(parent, "-01") != (sampled == 1000) && tt.name != "half" {
				t.Errorf("Forward = %q", parent)
			}
		})
	}
}

// Reloads share the connection to the collector while its settings are unchanged, also with anchors.
func TestSharing(t *testing.T) {
	dir := t.TempDir()
	testpki.NewCA("Collector Root").Write(dir, "ca")
	cfg := config.Default()
	cfg.Tracing = at(t, "https://127.0.0.1:1")
	cfg.Tracing.Trust = []config.Path{config.Path(filepath.Join(dir, "ca.pem"))}
	var pool reuse.Pool
	build := func() (*Tracer, *reuse.Lease) {
		lease := pool.Lease()
		tracer, err := New(cfg, Options{Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()), Lease: lease})
		if err != nil {
			t.Fatal(err)
		}
		return tracer, lease
	}
	first, held := build()
	second, also := build()
	testpki.NewCA("Collector Root").Write(dir, "ca")
	third, last := build()
	if first.provider != second.provider || second.provider == third.provider {
		t.Errorf("the connection is shared: %t with the same anchors, %t with others", first.provider == second.provider, second.provider == third.provider)
	}
	for _, lease := range []*reuse.Lease{held, also, last} {
		lease.Release()
	}
}

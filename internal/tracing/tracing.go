// Package tracing makes the spans of requests and sends them to a collector by OTLP over HTTP. A collector that
// is slow, broken or gone never delays a request.
package tracing

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/buildinfo"
	"github.com/tallygate/tallygate/internal/logsample"
	"github.com/tallygate/tallygate/internal/reuse"
)

// flushTimeout bounds the time for the spans that wait when a Tracer is closed.
const flushTimeout = 2 * time.Second

// A Tracer makes the spans of requests. A nil Tracer makes no spans and costs nothing. It is safe for concurrent use.
type Tracer struct {
	provider *provider
	trace.Tracer
	paths     config.LogPaths
	upstreams map[string]upstream // by API name
}

// A provider owns the connection to a collector. Successive configurations share it.
type provider struct {
	*sdktrace.TracerProvider
	close sync.Once
}

// Options are what New needs in addition to the configuration.
type Options struct {
	Log     *slog.Logger // required
	Metrics *Metrics     // required
	// Lease holds the connection to the collector, and its release sends the spans that wait. Required.
	Lease *reuse.Lease
}

// Check reads the variables and the files with which [New] would send spans, and sends none.
func Check(settings config.Tracing) error {
	_, err := destinationOf(settings)
	return err
}

// New returns the Tracer for cfg and for the environment, or nil if neither names a collector. Leases share the
// connection to the collector while its settings and files are unchanged. New sends nothing.
func New(cfg *config.Config, options Options) (*Tracer, error) {
	d, err := destinationOf(cfg.Tracing)
	if err != nil || d == nil {
		return nil, err
	}
	p, err := reuse.Acquire(options.Lease, "tracing", []any{d.key(), cfg.Tracing.Sample}, func(*provider) (*provider, error) {
		return open(d, cfg.Tracing.Sample, options)
	}, func(p *provider) {
		go p.flush() // a reload does not wait for a collector
	})
	if err != nil {
		return nil, err
	}
	return &Tracer{provider: p, Tracer: p.Tracer("github.com/tallygate/tallygate"), paths: cfg.Log.Paths, upstreams: upstreamsOf(cfg)}, nil
}

// open connects the parts of OpenTelemetry.
func open(d *destination, sample *config.Ratio, options Options) (*provider, error) {
	routeErrors(options.Log)
	// The variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come last, so that they overrule the rest.
	about, err := resource.New(context.Background(), resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("tallygate"), semconv.ServiceVersion(buildinfo.Read().Version)), resource.WithFromEnv())
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES: expected a list of name=value") // err quotes the value
	}
	with := []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(newQueue(d, options.Metrics, options.Log)), sdktrace.WithResource(about)}
	if sample != nil { // otherwise OTEL_TRACES_SAMPLER applies
		with = append(with, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(float64(*sample)))))
	}
	options.Log.Info("spans are exported", "collector", d.url)
	return &provider{TracerProvider: sdktrace.NewTracerProvider(with...)}, nil
}

// routeErrors sends the errors of OpenTelemetry, whose handler is global, to log, one line in ten seconds. Its
// internal log is discarded, because it quotes variables, which may be secret, and writes to standard error.
func routeErrors(log *slog.Logger) {
	var failures logsample.Samplers
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if n := failures.Add("", time.Now()); n > 0 {
			log.Warn("fault in tracing", "error", access.Truncate(err.Error()), "count", n)
		}
	}))
	otel.SetLogger(logr.Discard())
}

// flush sends the spans that wait, within flushTimeout, and closes the connection to the collector.
func (p *provider) flush() {
	p.close.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		_ = p.Shutdown(ctx) // the queue has logged and counted what was not sent
	})
}

// Close sends the spans that wait and returns after flushTimeout at the latest. Later spans are dropped.
func (t *Tracer) Close() {
	if t != nil {
		t.provider.flush()
	}
}

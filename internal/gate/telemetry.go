package gate

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/buildinfo"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/crl"
	"github.com/tallygate/tallygate/internal/loadshed"
	"github.com/tallygate/tallygate/internal/tracing"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/revocation/securityevents"
	"github.com/tallygate/tallygate/revocation/subscriber"
	"github.com/tallygate/tallygate/validate"
)

// telemetry holds the log, the metrics and the limits of a process. All states of the process share
// them.
type telemetry struct {
	log        *slog.Logger
	registry   *prometheus.Registry
	validation *validate.Metrics
	requests   *accesslog.Metrics
	handshakes *mtls.Handshakes
	revocation *crl.Metrics
	subscriber *subscriber.Metrics
	spans      *tracing.Metrics
	events     *securityevents.Metrics
	expiries   *prometheus.GaugeVec
	refused    *prometheus.CounterVec
	load       *loadshed.Shedder
	idleMemory *loadshed.IdleMemory
	memory     *cache.Pool // the memory that all caches share
}

func newTelemetry(log *slog.Logger) *telemetry {
	in := &telemetry{log: log, registry: newRegistry()}
	create := promauto.With(in.registry)
	in.validation = validate.NewMetrics(in.registry)
	in.requests = accesslog.NewMetrics(in.registry)
	in.handshakes = mtls.NewHandshakes(in.registry, handshakeCauses()...)
	in.revocation = crl.NewMetrics(in.registry)
	in.subscriber = subscriber.NewMetrics(in.registry)
	in.spans = tracing.NewMetrics(in.registry)
	in.events = securityevents.NewMetrics(in.registry)
	in.expiries = create.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tallygate_certificate_not_after_timestamp_seconds",
		Help: "Unix time at which a certificate ends, by role: server, with the listener as name, or client_ca, the first of a partner's anchors to end, with the partner as name.",
	}, []string{"role", "name"})
	in.refused = create.NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_connections_refused_total",
		Help: "Refused connections by listener and exceeded limit: connections, connections_per_address or memory.",
	}, []string{"listener", "limit"})
	in.idleMemory = loadshed.NewIdleMemory()
	in.load = loadshed.New(in.registry, PartnersListener, IssuerListener)
	in.memory = cache.NewPool(cache.DefaultBytes)
	in.load.FreeCaches = in.memory.Shrink
	create.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_cache_bytes", Help: "Bytes that cache entries take.",
	}, func() float64 { return float64(in.memory.Bytes()) })
	return in
}

// CacheFraction is the divisor that gives the caches' part of the memory limit: an eighth. The chart's
// limit leaves 512 MiB × 9/10 = 460 MiB, so the caches get 57 MiB, which hold some 60,000 tokens at 1
// KiB. New connections are refused when six eighths of the memory are in use.
const CacheFraction = 8

// limitMemory sets the memory limit of the process and of its caches, in bytes. 0 means no limit.
func (in *telemetry) limitMemory(bytes int64) {
	in.load.MaxMemory = bytes
	if bytes > 0 {
		in.memory.Resize(min(bytes/CacheFraction, cache.DefaultBytes))
	}
}

// sweepEvery is how long an expired entry may stay in a cache or in the history.
const sweepEvery = 10 * time.Second

// sweep removes expired entries from the caches and the history until ctx ends.
func (in *telemetry) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			in.memory.Sweep(now)
			if in.requests.History != nil {
				in.requests.History.Sweep(now)
			}
		}
	}
}

// newRegistry returns a registry with the metrics of the Go runtime, of the process and of the
// build.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	info := buildinfo.Read()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tallygate_build_info", Help: "Always 1; the labels name the build.",
		ConstLabels: prometheus.Labels{"version": info.Version, "revision": info.Revision, "goversion": runtime.Version()},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func metricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// NewLog returns the JSON log that a command or a gate writes to w.
func NewLog(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

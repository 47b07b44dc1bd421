package gate

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tallygate/tallygate/internal/buildinfo"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/crl"
	"github.com/tallygate/tallygate/internal/loadshed"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/proxy"
	"github.com/tallygate/tallygate/validate"
)

// telemetry are the log and the counts of a process. They outlive its configurations.
type telemetry struct {
	log        *slog.Logger
	registry   *prometheus.Registry
	validation *validate.Metrics
	requests   *proxy.Metrics
	handshakes *mtls.Handshakes
	revocation *crl.Metrics
	expiries   *prometheus.GaugeVec
	refused    *prometheus.CounterVec
	load       *loadshed.Shedder
	memory     *cache.Pool // of all caches
}

func newTelemetry(log *slog.Logger) (*telemetry, error) {
	in := &telemetry{log: log, registry: newRegistry()}
	var err error
	if in.validation, err = validate.NewMetrics(in.registry); err != nil {
		return nil, err
	}
	in.requests = proxy.NewMetrics(in.registry)
	in.handshakes = mtls.NewHandshakes(in.registry)
	in.revocation = crl.NewMetrics(in.registry)
	in.expiries = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tallygate_certificate_not_after_timestamp_seconds",
		Help: "End of validity of our own certificates, by role and listener.",
	}, []string{"role", "name"})
	in.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_connections_refused_total",
		Help: "Connections that were closed at once, by listener and the limit that they were beyond: connections, connections_per_address or memory.",
	}, []string{"listener", "limit"})
	in.registry.MustRegister(in.expiries, in.refused)
	in.load = loadshed.New(in.registry, PartnersListener, IssuerListener)
	in.memory = cache.NewPool(cache.DefaultBytes)
	in.load.FreeCaches = in.memory.Shrink
	in.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tallygate_cache_bytes", Help: "Memory of all entries in caches.",
	}, func() float64 { return float64(in.memory.Bytes()) }))
	return in, nil
}

// CacheFraction is the part of the memory of the process that caches may fill: an eighth. With
// the 460 MiB that the chart's limit leaves (512 MiB × 9/10) that is 57 MiB, or some 60,000
// tokens at 1 KiB. Further connections are refused at six eighths.
const CacheFraction = 8

// limitMemory lets the process use so many bytes, and the caches their part; 0 is no limit.
func (in *telemetry) limitMemory(bytes int64) {
	in.load.MaxMemory = bytes
	if bytes > 0 {
		in.memory.Resize(min(bytes/CacheFraction, cache.DefaultBytes))
	}
}

// sweepEvery is how long what has expired may stay in a cache.
const sweepEvery = 10 * time.Second

// sweep removes what has expired from the caches until ctx ends.
func (in *telemetry) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			in.memory.Sweep(now)
		}
	}
}

// newRegistry returns a registry of our own with what every Go process tells.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	info := buildinfo.Read()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tallygate_build_info", Help: "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": info.Version, "revision": info.Revision, "goversion": runtime.Version()},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func metricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

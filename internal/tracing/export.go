package tracing

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/logsample"
)

const (
	// maxWaiting bounds the spans that wait for the collector or are being sent to it. A span has at most 30
	// values of 256 bytes, so all together take some 16 MiB at most, and 2 MiB usually.
	maxWaiting = 2048
	// maxBatch is the default of the OpenTelemetry specification.
	maxBatch = 512
)

// Metrics count the spans of the process.
type Metrics struct{ exported, failed, dropped prometheus.Counter }

// NewMetrics returns Metrics and registers them with registerer.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	spans := promauto.With(registerer).NewCounterVec(prometheus.CounterOpts{
		Name: "tallygate_trace_spans_total", Help: "Spans by result: exported, failed (the collector did not take them) or dropped (too many waited for the collector).",
	}, []string{"result"})
	return &Metrics{spans.WithLabelValues("exported"), spans.WithLabelValues("failed"), spans.WithLabelValues("dropped")}
}

// A queue passes spans on to the exporter, counts them, and drops spans while maxWaiting wait. So a collector
// that is slow or gone costs bounded memory, and no request waits for it. It is safe for concurrent use.
type queue struct {
	sdktrace.SpanProcessor // batches the spans
	exporter               *otlptrace.Exporter
	waiting                atomic.Int64
	sending                context.Context // ends when the queue gives up the spans that still wait
	giveUp                 context.CancelFunc
	metrics                *Metrics
	log                    *slog.Logger
	failures               logsample.Samplers
}

// newQueue returns a queue to d.
func newQueue(d *destination, metrics *Metrics, log *slog.Logger) *queue {
	q := &queue{exporter: otlptrace.NewUnstarted(newClient(d)), metrics: metrics, log: log}
	_ = q.exporter.Start(context.Background()) // the client starts without an error
	q.sending, q.giveUp = context.WithCancel(context.Background())
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(counting{q},
		sdktrace.WithMaxQueueSize(maxWaiting), sdktrace.WithMaxExportBatchSize(maxBatch), sdktrace.WithExportTimeout(batchTimeout))
	return q
}

// OnEnd takes a span that has ended. It never waits.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	switch {
	case !s.SpanContext().IsSampled():
	case q.waiting.Add(1) > maxWaiting:
		q.waiting.Add(-1)
		q.metrics.dropped.Inc()
	default:
		q.SpanProcessor.OnEnd(s)
	}
}

// Shutdown sends the spans that wait, until ctx ends, and closes q.
func (q *queue) Shutdown(ctx context.Context) error {
	err := q.SpanProcessor.Shutdown(ctx)
	q.giveUp()
	return err
}

// A counting exporter sends batches and logs its failures, so that a failure reaches the log of this gate and
// not that of another gate in the process.
type counting struct{ *queue }

// ExportSpans sends a batch. It always returns nil, because it has logged the error.
func (c counting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	q := c.queue
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.sending, cancel)()
	err := q.exporter.ExportSpans(ctx, spans)
	q.waiting.Add(-int64(len(spans)))
	lost := 0
	var some rejectedError
	if errors.As(err, &some) {
		lost = int(min(int64(some), int64(len(spans))))
	} else if err != nil {
		lost = len(spans)
	}
	q.metrics.failed.Add(float64(lost))
	q.metrics.exported.Add(float64(len(spans) - lost))
	if err != nil {
		if n := q.failures.Add("", time.Now()); n > 0 {
			q.log.WarnContext(ctx, "spans not exported", "error", access.Truncate(err.Error()), "count", n)
		}
	}
	return nil
}

// Shutdown closes the exporter.
func (c counting) Shutdown(ctx context.Context) error { return c.exporter.Shutdown(ctx) }

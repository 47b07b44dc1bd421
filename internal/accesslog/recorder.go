// Package accesslog records each request at its end: it writes the line of the access log and counts the
// request in the metrics.
package accesslog

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
)

// A Recorder records the requests that one configuration decides. It is safe for concurrent use.
type Recorder struct {
	log      *slog.Logger
	metrics  *Metrics
	paths    config.LogPaths
	samples  bool                       // if true, the log has one granted request a second for each partner and route
	partners map[string]*partnerMetrics // by partner name, and also under unknownPartner
	retired  atomic.Bool                // set when the next configuration is in use
}

// NewRecorder returns the Recorder for cfg. The release of lease removes the certificate metric of each partner
// that no Recorder has, so that a removed partner causes no alert.
func NewRecorder(lease *reuse.Lease, cfg *config.Config, log *slog.Logger, metrics *Metrics) *Recorder {
	r := &Recorder{
		log: log, metrics: metrics, paths: cfg.Log.Paths, samples: cfg.Log.Granted == config.LogSample,
		partners: make(map[string]*partnerMetrics, 1+len(cfg.Partners.List)),
	}
	metrics.createSeries(cfg)
	r.partners[unknownPartner] = newPartnerMetrics(unknownPartner)
	for i := range cfg.Partners.List {
		name := string(cfg.Partners.List[i].Name)
		r.partners[name] = newPartnerMetrics(name)
		lease.Hold("certificate metric of "+name, func() { metrics.clientCertificate.DeleteLabelValues(name) })
	}
	// The Recorder is acquired after the metrics, so it is released before them.
	_, _ = reuse.Acquire(lease, "access log", nil, func(*Recorder) (*Recorder, error) { return r, nil }, func(r *Recorder) { r.retired.Store(true) })
	return r
}

// Record counts and logs the request in e. With sampling, one log line stands for many granted
// requests.
func (r *Recorder) Record(ctx context.Context, e *Entry) {
	s := r.routeMetrics(e)
	r.metrics.count(e, s)
	h := r.metrics.History
	if h != nil {
		e.remember(h)
	}
	level, suppressed := slog.LevelWarn, int64(0)
	if e.ended() {
		level = slog.LevelInfo
		if r.samples {
			var due bool
			if suppressed, due = s.sampleDue(e.Started.Add(e.Duration)); !due {
				return
			}
		}
	}
	warns := h != nil && level == slog.LevelWarn
	if warns || r.log.Enabled(ctx, level) {
		var room [mostAttributes]slog.Attr
		attrs := e.attributes(room[:0], r.paths)
		if warns {
			e.rememberWarning(h, attrs)
		}
		if suppressed > 0 {
			attrs = append(attrs, slog.Int64("suppressed", suppressed))
		}
		r.log.LogAttrs(ctx, level, "request", attrs...)
	}
}

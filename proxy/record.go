package proxy

import (
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/policy"
)

// An accessRecord has the values in the log line and the metrics of a request that has ended.
type accessRecord struct {
	*checkedRequest
	api, route  string              // the values of the labels
	servedHost  string              // the host if no route matched and an API is served under the host
	caller      policy.Caller       // the holder of the certificate
	presented   *access.Certificate // the certificate of a refused request, accepted or not; nil if there was none
	decided     bool                // false after a panic while deciding
	duration    time.Duration
	overhead    time.Duration // the time until the decision, which is a part of duration
	status      int           // the status of the response; 499 if the client disconnected before the header was sent
	failure     failure
	detail      error        // the error behind failure; may be nil
	termination *termination // nil if the gate did not end the request
}

// record logs and counts a request at its end. With sampling, one log line stands for many granted
// requests.
func (p *Proxy) record(x *exchange) {
	ended := time.Now()
	r := accessRecord{
		checkedRequest: &x.checkedRequest, api: x.decision.API, route: x.decision.Route, decided: x.decided, duration: ended.Sub(x.started), overhead: x.overhead,
		status: x.response.status, failure: x.failure, detail: x.detail, termination: x.conn.terminated(),
	}
	switch {
	case !r.decided: // Labels is not called, because it may panic in the same code
		r.api, r.route, r.overhead = policy.NoAPI, policy.Unmatched, r.duration
	case r.route == "":
		labels := p.steps.Table.Labels(r.request)
		r.servedHost, r.api, r.route = labels.Host, labels.API, labels.Route
	}
	r.findCaller()
	if r.failure == clientClosed && r.status == 0 {
		r.status = failures[clientClosed].status
	}
	s := p.routeMetrics(&r)
	p.metrics.count(&r, s)

	level := slog.LevelWarn
	if r.decision.Reason == access.Granted && r.failure == none && r.termination == nil {
		level = slog.LevelInfo
	}
	suppressed := int64(0)
	if level == slog.LevelInfo && p.samples {
		var due bool
		if suppressed, due = s.sampleDue(ended); !due {
			return
		}
	}
	ctx := r.request.Context()
	if p.log.Enabled(ctx, level) {
		var room [mostAttributes]slog.Attr
		attrs := r.attributes(room[:0], p.paths)
		if suppressed > 0 {
			attrs = append(attrs, slog.Int64("suppressed", suppressed))
		}
		p.log.LogAttrs(ctx, level, "request", attrs...)
	}
}

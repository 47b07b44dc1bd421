package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/policy"
)

// An accessRecord has the values in the log line and the metrics of a request that has ended.
type accessRecord struct {
	*checkedRequest
	api, route  string // the values of the labels
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
		checkedRequest: &x.checkedRequest, api: x.decision.API, route: x.decision.Route, duration: ended.Sub(x.started), overhead: x.overhead,
		status: x.response.status, failure: x.failure, detail: x.detail, termination: x.conn.terminated(),
	}
	if !x.decided { // a panic while deciding
		r.overhead = r.duration
	}
	switch {
	case r.route != "":
	case x.decided:
		r.api, r.route = p.steps.Table.Labels(r.request)
	default: // the code of the panic may be called by Labels too
		r.api, r.route = policy.NoAPI, policy.Unmatched
	}
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
		attrs := r.attributes(room[:0])
		if suppressed > 0 {
			attrs = append(attrs, slog.Int64("suppressed", suppressed))
		}
		p.log.LogAttrs(ctx, level, "request", attrs...)
	}
}

// mostAttributes bounds the attributes of a line: 11 in every line, 5 that depend on the request
// (thumbprint, sub, jti_hash, failure, terminated_by), up to 3 details, and suppressed: 11 + 5 + 3 +
// 1 = 20.
const mostAttributes = 20

// attributes appends the attributes of the log line to attrs. Path and query are not logged, because
// the route says what the client called, and the query may have secrets. The slog handler escapes
// values that the client chose.
func (r *accessRecord) attributes(attrs []slog.Attr) []slog.Attr {
	d := &r.decision
	attrs = append(attrs,
		slog.String("partner", r.partner()),
		slog.String("client_id", access.Truncate(d.ClientID)),
		slog.String("api", r.api),
		slog.String("route", r.route),
		slog.String("issuer", d.Server),
		slog.String("method", access.Truncate(r.request.Method)),
		slog.String("reason", d.Reason.String()),
		slog.String("request_id", r.id),
		slog.Int("status", r.status),
		slog.String("remote", r.request.RemoteAddr),
		slog.Int64("duration_us", r.duration.Microseconds()),
	)
	if thumbprint := r.thumbprint(); thumbprint != "" {
		attrs = append(attrs, slog.String("thumbprint", thumbprint))
	}
	if d.Claims.Subject != d.Claims.ClientID {
		attrs = append(attrs, slog.String("sub", access.Truncate(d.Claims.Subject)))
	}
	if d.Claims.TokenID != "" {
		attrs = append(attrs, slog.String("jti_hash", shortHash(d.Claims.TokenID)))
	}
	if r.failure != none {
		attrs = append(attrs, slog.String("failure", failures[r.failure].label))
	}
	var terminatedFor error
	if end := r.termination; end != nil {
		attrs = append(attrs, slog.String("terminated_by", end.by))
		terminatedFor = end.decision.Err
	}
	for _, detail := range []error{d.Err, r.detail, terminatedFor} {
		if detail != nil {
			attrs = append(attrs, slog.String("detail", access.Truncate(detail.Error())))
		}
	}
	return attrs
}

// shortHash returns 64 bits of the SHA-256 of a token's id in hex: enough to tell tokens apart in a log
// that does not show the id.
func shortHash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}

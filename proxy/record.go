package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/access"
)

// record logs and counts a request at its end. With sampling, one log line stands for many granted
// requests.
func (p *Proxy) record(x *exchange) {
	ended := time.Now()
	d := &x.decision
	if x.decided.IsZero() { // a panic while deciding
		x.decided = ended
	}
	if x.failure == clientClosed && x.status == 0 {
		x.status = failures[clientClosed].status
	}
	s := p.routeMetrics(d)
	p.metrics.count(x, s, ended)

	level := slog.LevelWarn
	if d.Reason == access.Granted && x.failure == none && x.terminated() == nil {
		level = slog.LevelInfo
	}
	suppressed := int64(0)
	if level == slog.LevelInfo && p.samples {
		var due bool
		if suppressed, due = s.sampleDue(ended); !due {
			return
		}
	}
	ctx := x.request.Context()
	if p.log.Enabled(ctx, level) {
		var room [mostAttributes]slog.Attr
		attrs := x.attributes(room[:0], ended)
		if suppressed > 0 {
			attrs = append(attrs, slog.Int64("suppressed", suppressed))
		}
		p.log.LogAttrs(ctx, level, "request", attrs...)
	}
}

// mostAttributes bounds the attributes of a line: 10 in every line, 5 that depend on the request
// (thumbprint, sub, jti_hash, failure, terminated_by), up to 3 details, and suppressed: 10 + 5 + 3 +
// 1 = 19.
const mostAttributes = 19

// attributes appends the attributes of the log line to attrs. Path and query are not logged, because
// the route says what the client called, and the query may have secrets. The slog handler escapes
// values that the client chose.
func (x *exchange) attributes(attrs []slog.Attr, ended time.Time) []slog.Attr {
	d := &x.decision
	route := d.Route
	if route == "" {
		route = unmatchedRoute
	}
	attrs = append(attrs,
		slog.String("partner", x.partner()),
		slog.String("client_id", access.Truncate(d.ClientID)),
		slog.String("route", route),
		slog.String("issuer", d.Server),
		slog.String("method", access.Truncate(x.request.Method)),
		slog.String("reason", d.Reason.String()),
		slog.String("request_id", x.id),
		slog.Int("status", x.status),
		slog.String("remote", x.request.RemoteAddr),
		slog.Int64("duration_us", ended.Sub(x.started).Microseconds()),
	)
	if thumbprint := x.thumbprint(); thumbprint != "" {
		attrs = append(attrs, slog.String("thumbprint", thumbprint))
	}
	if d.Claims.Subject != d.Claims.ClientID {
		attrs = append(attrs, slog.String("sub", access.Truncate(d.Claims.Subject)))
	}
	if d.Claims.TokenID != "" {
		attrs = append(attrs, slog.String("jti_hash", shortHash(d.Claims.TokenID)))
	}
	if x.failure != none {
		attrs = append(attrs, slog.String("failure", failures[x.failure].label))
	}
	var terminatedFor error
	if end := x.terminated(); end != nil {
		attrs = append(attrs, slog.String("terminated_by", end.by))
		terminatedFor = end.decision.Err
	}
	for _, detail := range []error{d.Err, x.detail, terminatedFor} {
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

package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/access"
)

// record writes the one log line and counts the one count of a request, at its end. Of
// granted requests that came to theirs, one line may stand for many.
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

// mostAttributes is how many a line has: ten that all have, and nine that depend on how
// far the request came.
const mostAttributes = 19

// attributes appends those of the log line to attrs. Neither the path nor the query is
// among them: the route says what was called, and the query may hold secrets. What a
// caller chose is escaped by the handler.
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
	if shown := x.thumbprint(); shown != "" {
		attrs = append(attrs, slog.String("thumbprint", shown))
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
	var endedFor error
	if end := x.terminated(); end != nil {
		attrs = append(attrs, slog.String("terminated_by", end.by))
		endedFor = end.decision.Err
	}
	for _, detail := range []error{d.Err, x.detail, endedFor} {
		if detail != nil {
			attrs = append(attrs, slog.String("detail", access.Truncate(detail.Error())))
		}
	}
	return attrs
}

// partner returns the name of the caller's.
func (x *exchange) partner() string {
	if x.decision.Partner == "" {
		return unknownPartner
	}
	return x.decision.Partner
}

// thumbprint returns that of the client's certificate, also of one that was turned down,
// "" for none.
func (x *exchange) thumbprint() string {
	if x.peerThumbprint == "" && x.certificate != nil {
		x.peerThumbprint = x.certificate.Thumbprint.String()
	}
	if x.peerThumbprint == "" {
		if leaf := x.proxy.steps.Trust.PeerCertificate(x.request); leaf != nil {
			x.peerThumbprint = access.ThumbprintOf(leaf).String()
		}
	}
	return x.peerThumbprint
}

// hashed shortens a token's id to what tells two apart in a log, 64 bits, and is
// of no use to anyone who reads it.
func shortHash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}

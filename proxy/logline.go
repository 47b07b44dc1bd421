package proxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certlog"
	"github.com/tallygate/tallygate/policy"
)

// mostAttributes bounds the attributes of a line: 12 in every line, 7 that depend on the request (path,
// thumbprint, sub, jti_hash, failure, terminated_by, error), 3 of a refusal (application, token_partner,
// summary) with those of its certificate, and suppressed.
const mostAttributes = 12 + 7 + 3 + certlog.MaxAttributes + 1

// attributes appends the attributes of the log line to attrs. paths says whether the path is logged; the
// query, which may have secrets, never is. The slog handler escapes values that the client chose.
func (r *accessRecord) attributes(attrs []slog.Attr, paths config.LogPaths) []slog.Attr {
	d := &r.decision
	attrs = append(attrs,
		slog.String("partner", r.partner()),
		slog.String("client_id", access.Truncate(d.ClientID)),
		slog.String("host", r.hostName()),
		slog.String("api", r.api),
		slog.String("route", r.route),
		slog.String("issuer", d.Server),
		slog.String("method", access.Truncate(r.request.Method)),
		slog.String("reason", d.Reason.String()),
		slog.String("request_id", r.id),
		slog.Int("status", r.status),
		slog.String("remote", r.request.RemoteAddr),
		slog.Float64("duration_ms", float64(r.duration.Microseconds())/1000),
	)
	if paths == config.LogAllPaths || paths == config.LogUnmatchedPaths && r.route == policy.Unmatched {
		if path := pathOf(r.request); path != "" {
			attrs = append(attrs, slog.String("path", access.Truncate(path)))
		}
	}
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
	if text := joined(d.Err, r.detail, terminatedFor); text != "" {
		attrs = append(attrs, slog.String("error", access.Truncate(text)))
	}
	if d.Reason != access.Granted {
		attrs = r.refusalAttributes(attrs)
	}
	return attrs
}

// refusalAttributes appends the attributes of a refused request that name the holder of its certificate and
// the partner of its token.
func (r *accessRecord) refusalAttributes(attrs []slog.Attr) []slog.Attr {
	if r.caller.ClientID != "" {
		attrs = append(attrs, slog.String("application", r.caller.ClientID))
	}
	if r.decision.Partner != "" {
		attrs = append(attrs, slog.String("token_partner", r.decision.Partner))
	}
	if summary := r.parties(); summary != "" {
		attrs = append(attrs, slog.String("summary", summary))
	}
	if r.presented != nil {
		attrs = append(attrs, certlog.Attributes(r.presented.Leaf)...)
	}
	return attrs
}

// hostName returns the host of the request: a served host as the configuration has it, and any other host
// as the client sent it.
func (r *accessRecord) hostName() string {
	return cmp.Or(r.host, r.servedHost, access.Truncate(r.request.Host))
}

// beginOfQuery has the texts that end a path. Clients that encode a question mark by mistake, once or twice,
// still put secrets behind it, and a fragment may be a response of OAuth 2.0.
var beginOfQuery = [...]string{"?", "#", "%3F", "%3f", "%253F", "%253f"}

// pathOf returns the path of r as the client sent it, without query and fragment. It removes both before it
// looks for the path of an absolute-form, because a query may have slashes.
func pathOf(r *http.Request) string {
	target := r.RequestURI
	for _, begin := range beginOfQuery {
		target, _, _ = strings.Cut(target, begin)
	}
	if scheme := strings.Index(target, "://"); scheme > 0 && !strings.HasPrefix(target, "/") { // absolute-form
		_, target, _ = strings.Cut(target[scheme+len("://"):], "/")
		target = "/" + target
	}
	return target
}

// joined returns the texts of errs, without those that are nil.
func joined(errs ...error) string {
	text := ""
	for _, err := range errs {
		switch {
		case err == nil:
		case text == "":
			text = err.Error()
		default:
			text += "; " + err.Error()
		}
	}
	return text
}

// shortHash returns 64 bits of the SHA-256 of a token's id in hex: enough to tell tokens apart in a log
// that does not show the id.
func shortHash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}

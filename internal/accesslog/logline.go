package accesslog

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certlog"
	"github.com/tallygate/tallygate/policy"
)

// mostAttributes bounds the attributes of a line: 12 in every line, 10 that depend on the request (request_id_from,
// fapi_interaction_id, trace_id, path, thumbprint, sub, jti_hash, failure, terminated_by, error), 3 of a refusal
// (application, token_partner, summary), the attributes of its certificate, and suppressed.
const mostAttributes = 12 + 10 + 3 + certlog.MaxAttributes + 1

// attributes appends the attributes of the log line to attrs. paths says whether the path is logged. The
// query is never logged, because it may have secrets. The slog handler escapes values that the client
// chose.
func (e *Entry) attributes(attrs []slog.Attr, paths config.LogPaths) []slog.Attr {
	d := e.Decision
	attrs = append(attrs,
		slog.String("partner", e.Partner()),
		slog.String("client_id", access.Truncate(d.ClientID)),
		slog.String("host", access.Truncate(e.Host)),
		slog.String("api", e.API),
		slog.String("route", e.Route),
		slog.String("issuer", d.Server),
		slog.String("method", access.Truncate(e.Method)),
		slog.String("reason", d.Reason.String()),
		slog.String("request_id", e.RequestID),
		slog.Int("status", e.Status),
		slog.String("remote", e.Remote),
		slog.Float64("duration_ms", float64(e.Duration.Microseconds())/1000),
	)
	if e.IDFromClient {
		attrs = append(attrs, slog.String("request_id_from", "client"))
	}
	if e.InteractionID != "" {
		attrs = append(attrs, slog.String("fapi_interaction_id", e.InteractionID))
	}
	if e.TraceID != "" {
		attrs = append(attrs, slog.String("trace_id", e.TraceID))
	}
	if path := e.Path(paths); path != "" {
		attrs = append(attrs, slog.String("path", access.Truncate(path)))
	}
	if e.Thumbprint != "" {
		attrs = append(attrs, slog.String("thumbprint", e.Thumbprint))
	}
	if d.Claims.Subject != d.Claims.ClientID {
		attrs = append(attrs, slog.String("sub", access.Truncate(d.Claims.Subject)))
	}
	if d.Claims.TokenID != "" {
		attrs = append(attrs, slog.String("jti_hash", shortHash(d.Claims.TokenID)))
	}
	if e.Failure != NoFailure {
		attrs = append(attrs, slog.String("failure", e.Failure.String()))
	}
	if e.TerminatedBy != "" {
		attrs = append(attrs, slog.String("terminated_by", e.TerminatedBy))
	}
	if text := joined(d.Err, e.FailureDetail, e.TerminatedFor); text != "" {
		attrs = append(attrs, slog.String("error", access.Truncate(text)))
	}
	if d.Reason != access.Granted {
		attrs = e.refusalAttributes(attrs)
	}
	return attrs
}

// Path returns the path of the request, without query and fragment, or "" if paths says that it is not logged.
func (e *Entry) Path(paths config.LogPaths) string {
	if paths == config.LogAllPaths || paths == config.LogUnmatchedPaths && e.Route == policy.Unmatched {
		return pathOf(e.Target)
	}
	return ""
}

// refusalAttributes appends the attributes of a refused request that name the holder of its certificate and
// the partner of its token.
func (e *Entry) refusalAttributes(attrs []slog.Attr) []slog.Attr {
	if e.Caller.ClientID != "" {
		attrs = append(attrs, slog.String("application", e.Caller.ClientID))
	}
	if e.Decision.Partner != "" {
		attrs = append(attrs, slog.String("token_partner", e.Decision.Partner))
	}
	if summary := e.parties(); summary != "" {
		attrs = append(attrs, slog.String("summary", summary))
	}
	if e.Presented != nil {
		attrs = append(attrs, certlog.Attributes(e.Presented.Leaf)...)
	}
	return attrs
}

// beginOfQuery has the texts that end a path. Clients that encode a question mark by mistake, once or twice,
// still put secrets behind it, and a fragment may be a response of OAuth 2.0.
var beginOfQuery = [...]string{"?", "#", "%3F", "%3f", "%253F", "%253f"}

// pathOf returns the path of target as the client sent it, without query and fragment. It removes both before it
// looks for the path of an absolute-form, because a query may have slashes.
func pathOf(target string) string {
	for _, begin := range beginOfQuery {
		target, _, _ = strings.Cut(target, begin)
	}
	if scheme := strings.Index(target, "://"); scheme > 0 && !strings.HasPrefix(target, "/") { // absolute-form
		_, target, _ = strings.Cut(target[scheme+len("://"):], "/")
		target = "/" + target
	}
	return target
}

// joined returns the texts of the errors in errs that are not nil.
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

// parties returns a text for the log that names the holder of the certificate and the owner of the token. It
// returns "" if the reason of the refusal is not that the token is bound to another certificate or key.
func (e *Entry) parties() string {
	d, caller := e.Decision, "a certificate of no known partner"
	if e.Caller.Partner != "" {
		caller = "partner " + e.Caller.Partner
	}
	owner := "a token of no known application"
	if d.Partner != "" {
		owner = "a token of partner " + d.Partner + ", application " + d.ClientID
	}
	switch d.Reason { //nolint:exhaustive // the other reasons do not compare certificate and token
	case access.BoundToPrevious:
		return caller + " showed a token that is bound to an earlier certificate of its application " + d.ClientID + ": a renewal, not a theft"
	case access.BoundToOther, access.BoundToOtherKey:
	default:
		return ""
	}
	switch {
	case d.Partner == "" || d.Partner != e.Caller.Partner:
		return caller + " showed " + owner
	case d.Reason == access.BoundToOtherKey:
		return caller + " showed its own token with a proof of another key"
	case e.Caller.ClientID == "":
		return caller + " showed its own token, of application " + d.ClientID + ", with a certificate that no application registers: a renewal, or a theft within the partner"
	case e.Caller.ClientID == d.ClientID:
		return caller + " showed its own token, which is bound to a certificate that application " + d.ClientID + " does not register"
	}
	return caller + " showed a token of its application " + d.ClientID + " with a certificate of its application " + e.Caller.ClientID
}

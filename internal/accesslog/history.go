package accesslog

import (
	"log/slog"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/history"
)

// remember adds the request in e to h, for the console: it counts the request. If the request has ended as
// its client and the upstream wanted, it adds the certificate too.
func (e *Entry) remember(h *history.History) {
	at, partner, label := e.Started.Add(e.Duration), e.Partner(), e.label()
	h.Count(partner, history.Key{API: e.API, Reason: label, Outcome: e.historyOutcome()}, at)
	if e.ended() && e.Certificate != nil { // a preflight has no certificate
		h.See(partner, e.Decision.ClientID, e.Certificate.Thumbprint, at, e.describeCertificate)
	}
}

// rememberWarning adds a request whose log line is a warning to h. attrs are the attributes of the line.
func (e *Entry) rememberWarning(h *history.History, attrs []slog.Attr) {
	at := e.Started.Add(e.Duration)
	kind := history.Kind{
		Reason: e.label(), API: e.API, Route: e.Route, ClientID: access.Truncate(e.Decision.ClientID), Thumbprint: e.Thumbprint,
		BoundToOther: e.Decision.Reason == access.BoundToOther || e.Decision.Reason == access.BoundToOtherKey,
	}
	h.Refuse(e.Partner(), kind, at, history.FieldsOf(at, "request", attrs))
}

// describeCertificate returns the names and the end of the accepted certificate.
func (e *Entry) describeCertificate() (subject, issuer string, notAfter time.Time) {
	leaf := e.Certificate.Leaf
	return access.Truncate(certname.Text(leaf.RawSubject)), access.Truncate(certname.Text(leaf.RawIssuer)), leaf.NotAfter
}

// label returns the reason, or what happened to a request after it was granted.
func (e *Entry) label() string {
	switch {
	case e.Failure != NoFailure:
		return e.Failure.String()
	case e.TerminatedBy != "":
		return e.TerminatedBy
	}
	return e.Decision.Reason.String()
}

// historyOutcome returns Failed if the gate or the API is at fault. A granted request that its client broke
// off counts as granted.
func (e *Entry) historyOutcome() history.Outcome {
	switch outcome(e.Decision.Reason) {
	case "deny":
		return history.Refused
	case "error":
		return history.Failed
	}
	switch e.Failure { //nolint:exhaustive // the other failures are the client's
	case UpstreamUnreachable, UpstreamTimeout, UpstreamTLS, UpstreamReset:
		return history.Failed
	}
	return history.Granted
}

package proxy

import (
	"cmp"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/policy"
)

// record logs and counts a request at its end.
func (p *Proxy) record(x *exchange) {
	d, r := &x.Decision, x.Request
	e := accesslog.Entry{
		Decision: d, API: d.API, Route: d.Route, Certificate: x.Certificate, Thumbprint: x.Thumbprint(), RequestID: x.id, IDFromClient: x.idFromClient, InteractionID: x.interactionID,
		Host: x.Host, Method: r.Method, Target: r.RequestURI, Remote: r.RemoteAddr,
		Started: x.started, Duration: time.Since(x.started), Overhead: x.overhead,
		Status: x.response.status, Failure: x.failure, FailureDetail: x.detail,
	}
	switch {
	case !x.decided: // Labels is not called, because it may panic in the same code
		e.API, e.Route, e.Overhead = policy.NoAPI, policy.Unmatched, e.Duration
	case e.Route == "":
		labels := p.checks.Table.Labels(r)
		e.API, e.Route, e.Host = labels.API, labels.Route, cmp.Or(x.Host, labels.Host)
	}
	e.Host = cmp.Or(e.Host, r.Host)
	if end := x.conn.terminated(); end != nil {
		e.TerminatedBy, e.TerminatedFor = end.by, end.decision.Err
	}
	if e.Failure == accesslog.ClientClosed && e.Status == 0 {
		e.Status = failureAnswers[accesslog.ClientClosed].status
	}
	x.findCaller(&e)
	if x.Trace != nil {
		e.TraceID = x.finishTrace(&e)
	}
	p.recorder.Record(r.Context(), &e)
}

// findCaller sets Caller, and for a refused request Presented. A granted request needs no search, because its
// certificate belongs to the partner of its token.
func (x *exchange) findCaller(e *accesslog.Entry) {
	d := &x.Decision
	switch {
	case d.Reason == access.Granted:
		e.Caller.Partner = d.Partner
	case x.decided:
		e.Presented = x.Presented()
		e.Caller = x.Checks.Table.Caller(e.Presented)
		if e.Caller.Partner == "" && d.Claims.Server != "" { // the binding of the token has been checked, so the caller holds the token
			e.Caller = policy.Caller{Partner: d.Partner}
		}
	}
}

package proxy

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/limits"
	"github.com/tallygate/tallygate/internal/upstream"
)

// A checkedRequest is a request with the results of its checks, and with what the gate adds to it.
type checkedRequest struct {
	authorize.Checked
	id            string // the X-Request-Id in the response, the log and the request to the upstream
	idFromClient  bool   // id is the X-Request-Id of the client
	interactionID string // the X-Fapi-Interaction-Id in the same places; "" if not configured
	assertion     string // the JWT for the upstream; "" if the route needs no assertion
}

// An exchange is a request in progress. Only the goroutine of the handler uses an exchange. The comments
// on the types of conn, body and response say what other goroutines may do with these fields.
type exchange struct {
	checkedRequest
	proxy    *Proxy
	slots    limits.Slots
	conn     clientConn
	body     requestBody
	response responseWriter
	recheck  *recheck // nil until startRecheck
	started  time.Time
	overhead time.Duration     // the time until the decision
	decided  bool              // false if a panic came before the decision
	failure  accesslog.Failure // what failed after the request was granted
	detail   error             // the error behind failure, for the log

	// The fields below are part of the exchange, so that they need no allocation of their own.
	out    upstream.Request
	fields [usualFields]http1.Field // room for the fields of out
}

// usualFields is how many fields most requests to upstreams have: up to 11 of the gate, and about a dozen of
// the client. The fields of a larger request are allocated.
const usualFields = 24

func (p *Proxy) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{
		checkedRequest: checkedRequest{Checked: authorize.Checked{Checks: p.checks, Request: r}},
		proxy:          p,
		conn:           clientConn{writer: w, stall: p.stall},
		response:       responseWriter{closing: p.closing},
		started:        time.Now(),
	}
	x.Trace = p.tracer.Start(r, x.started)
	x.setIDs(p.correlation)
	x.conn.fields, _ = w.(http1.ResponseWriter)
	x.body.conn, x.response.conn = &x.conn, &x.conn
	x.response.checked = &x.checkedRequest
	return x
}

// end returns the connection to the server and releases the slots of x.
func (x *exchange) end() {
	defer x.slots.Release(x.Decision.Partner)
	x.conn.finish()
}

// recoverPanic turns a panic into a refusal if no response has begun, and aborts the response otherwise. It
// repeats a panic with http.ErrAbortHandler, by which abort ends a response.
func (x *exchange) recoverPanic(log *slog.Logger) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does: the value itself is the signal
		panic(v)
	}
	logPanic(x.Request.Context(), log, x.id, v)
	if x.response.status != 0 {
		x.failure = accesslog.UpstreamReset
		panic(http.ErrAbortHandler)
	}
	x.Decision.Reason = access.Undecided
	x.refuse(x.Decision, false)
}

package proxy

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
)

// An exchange is one request on its way through the gate, and the writer of its
// answer. It belongs to one goroutine.
type exchange struct {
	http.ResponseWriter
	control     http.ResponseController
	request     *http.Request
	id          string   // names the request in the answer, the log and at the upstream
	idValues    []string // the same as a header's values, once it was forwarded
	stall       time.Duration
	started     time.Time
	decided     time.Time
	decision    access.Decision
	shown       string                // the thumbprint on the connection, once it was asked for
	certificate *access.Certificate   // nil until it has passed
	failure     failure               // what went wrong after a grant
	detail      error                 // of failure, for the log
	status      int                   // sent; 0 before
	deaf        bool                  // the client no longer takes the answer
	bodyFault   atomic.Pointer[error] // why the client's body ended early; the transport reads it
}

func newExchange(w http.ResponseWriter, r *http.Request, stall time.Duration) *exchange {
	x := &exchange{
		ResponseWriter: w,
		control:        *http.NewResponseController(w),
		request:        r,
		id:             rand.Text(),
		stall:          stall,
		started:        time.Now(),
	}
	// The deadline of the connection's last answer must not cut this one short.
	x.postpone(x.started)
	return x
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader notes the final status; informational ones pass.
func (x *exchange) WriteHeader(status int) {
	if status >= 200 && x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write gives the client another stall timeout to take b.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	x.postpone(time.Now())
	n, err := x.ResponseWriter.Write(b)
	x.deaf = x.deaf || err != nil
	return n, err
}

// postpone moves the write deadline. A writer without deadlines, as in a
// benchmark, does without.
func (x *exchange) postpone(now time.Time) { _ = x.control.SetWriteDeadline(now.Add(x.stall)) }

// hurry bounds the wait for the next bytes of the body: those that the upstream is to
// get, and those of a refused request, which the server skips to find the next one.
func (x *exchange) hurry() { _ = x.control.SetReadDeadline(time.Now().Add(x.stall)) }

// rescue turns a panic into a refusal where nothing has been sent yet. The stack
// goes to the log; the panic's value only when it is the runtime's, for any other
// may quote the request. http.ErrAbortHandler passes: it is how ReverseProxy says
// that an answer broke off.
func (x *exchange) rescue(log *slog.Logger) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does: the value itself is the signal
		if x.failure == none {
			x.failure = brokenOff(x)
		}
		panic(v)
	}
	cause := "not a runtime error"
	if fault, ok := v.(runtime.Error); ok {
		cause = fault.Error()
	}
	log.ErrorContext(x.request.Context(), "panic", "request_id", x.id, "cause", cause, "stack", string(debug.Stack()))
	if x.status != 0 {
		x.failure = upstreamReset
		panic(http.ErrAbortHandler)
	}
	x.decision.Reason = access.Undecided
	answer(x, x.decision, x.id, false)
}

// A stallingBody gives the client another stall timeout for each part of a body,
// and no more.
type stallingBody struct {
	io.ReadCloser
	exchange *exchange
}

func (b *stallingBody) Read(p []byte) (int, error) {
	b.exchange.hurry()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if err != io.EOF {
			b.exchange.bodyFault.Store(&err)
		}
		// The server goes on reading to notice that the client leaves; a deadline
		// left behind would look like that.
		_ = b.exchange.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

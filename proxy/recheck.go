package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/authorize"
)

// A termination says why the gate ended a stream.
type termination struct {
	by       string // the label of a reason, or accesslog.Stopping, or accesslog.UpstreamChanged
	decision access.Decision
}

// refuses reports whether the client gets a refusal. It is false for Stopping and UpstreamChanged,
// because a new request would still be granted.
func (e *termination) refuses() bool {
	return e.by != accesslog.Stopping && e.by != accesslog.UpstreamChanged
}

// A recheck repeats the decision about one stream while the stream runs. Most streams end before the
// first interval has passed, so a recheck is a timer, and has no goroutine until then.
type recheck struct {
	streams  *Streams
	proxy    *Proxy // the Proxy that granted the request
	checked  *checkedRequest
	body     *requestBody
	conn     *clientConn
	request  http.Request // a copy, as it was when the decision was taken
	cancel   func()       // ends the request to the upstream, and so ends the stream
	timer    *time.Timer
	response atomic.Int32 // responseNone, responseSized or responseStreaming

	mu      sync.Mutex
	stopped bool               // run must return at once
	stop    context.CancelFunc // ends run; nil if run has not started
	done    chan struct{}      // closed when run has returned
}

// The state of the response.
const (
	responseNone      int32 = iota // the response header has not arrived
	responseSized                  // the response has a Content-Length
	responseStreaming              // the response has no length, or is a tunnel
)

// startRecheck repeats the decision about x every [Streams.recheckInterval], until stopRecheck is
// called. cancel must end the request to the upstream. startRecheck must be called before the body is
// read, because at the end of a body the HTTP/2 server writes the trailer to the request, which the recheck
// copies.
func (x *exchange) startRecheck(cancel func()) *recheck {
	r := &recheck{
		streams: x.proxy.streams, proxy: x.proxy, checked: &x.checkedRequest, body: &x.body, conn: &x.conn,
		request: *x.Request, cancel: cancel,
	}
	x.recheck = r
	r.timer = time.AfterFunc(r.streams.recheckInterval, r.run)
	return r
}

// stopRecheck ends the recheck and waits until it has ended. It does nothing if x has no recheck. The
// handler must call it before it returns.
func (x *exchange) stopRecheck() {
	r := x.recheck
	if r == nil || r.timer.Stop() {
		return
	}
	r.mu.Lock()
	r.stopped = true
	stop, done := r.stop, r.done
	r.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

func (r *recheck) run() {
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return
	}
	ctx, stop := context.WithCancel(r.request.Context())
	done := make(chan struct{})
	r.stop, r.done = stop, done
	r.mu.Unlock()
	defer close(done)
	defer stop()

	tick := time.NewTicker(r.streams.recheckInterval)
	defer tick.Stop()
	end := r.streams.end
	for {
		if why := r.evaluate(ctx); why != nil {
			r.conn.termination.Store(why)
			r.cancel()
			r.forceClose(ctx)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-end:
			end = nil // the gate does not end a message with a Content-Length
		case <-tick.C:
		}
	}
}

// forceClose blocks writes to the client, repeatedly, until ctx ends. Without forceClose, a client
// that reads nothing could keep the stream open.
func (r *recheck) forceClose(ctx context.Context) {
	tick := time.NewTicker(r.streams.forceCloseInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.conn.blockWrites()
		}
	}
}

// evaluate takes the decision again. It returns why the stream must end, or nil if the stream may go
// on.
func (r *recheck) evaluate(ctx context.Context) *termination {
	running, unbounded := r.inProgress()
	if !running {
		return nil
	}
	if unbounded && r.streams.draining() {
		return &termination{by: accesslog.Stopping}
	}
	by := r.streams.current()
	before, now := &r.checked.Decision, r.decide(ctx, by)
	switch {
	case ctx.Err() != nil: // the stream has ended, and the decision may have failed because of the end
		return nil
	case now.Reason != access.Granted:
	case now.API != before.API || now.Partner != before.Partner || now.ClientID != before.ClientID:
		// The upstream has received the identity headers of the earlier decision.
		now = access.Decision{Reason: access.APINotAllowed, Err: errCallerChanged}
	case unbounded && !by.upstreams[now.API].SameDestination(r.proxy.upstreams[now.API]):
		return &termination{by: accesslog.UpstreamChanged}
	default:
		return nil
	}
	return &termination{by: now.Reason.String(), decision: now}
}

// inProgress reports whether the body of the request or of the response is being transferred
// (running), and whether the length of this body is unknown (unbounded). While the upstream works,
// between the request body and the response, no body is being transferred. The recheck does not end
// the stream during this time, because a refusal would tell the client that the upstream did nothing;
// the upstream's timeout bounds this time.
func (r *recheck) inProgress() (running, unbounded bool) {
	response := r.response.Load()
	length := r.request.ContentLength
	sending := length != 0 && !r.body.readToEnd.Load()
	return sending || response != responseNone, sending && length < 0 || response == responseStreaming
}

var errCallerChanged = errors.New("the request now belongs to another application or to another API")

// decide returns the decision that by.ServeHTTP would take. After a panic it returns Undecided.
func (r *recheck) decide(ctx context.Context, by *Proxy) (d access.Decision) {
	defer func() {
		if v := recover(); v != nil {
			logPanic(ctx, r.proxy.log, r.checked.id, v)
			d = access.Decision{Reason: access.Undecided}
		}
	}()
	again := authorize.Checked{Checks: by.checks, Request: r.request.WithContext(ctx), Credentials: r.checked.Credentials}
	again.Decide(nil) // load by other clients must not end a stream
	return again.Decision
}

// logPanic logs a panic with its stack. It logs the value v only if v is a runtime.Error, because any
// other value may quote the request.
func logPanic(ctx context.Context, log *slog.Logger, id string, v any) {
	cause := "not a runtime error"
	if fault, ok := v.(runtime.Error); ok {
		cause = fault.Error()
	}
	log.ErrorContext(ctx, "panic", "request_id", id, "error", cause, "stack", string(debug.Stack()))
}

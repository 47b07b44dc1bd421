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
)

// A termination says why the gate ended a stream.
type termination struct {
	by       string // the label of a reason, stopping or upstreamChanged
	decision access.Decision
}

// refuses reports whether the client gets a refusal. With stopping and upstreamChanged the request
// would still be granted.
func (e *termination) refuses() bool { return e.by != stopping && e.by != upstreamChanged }

// A recheck takes the decision about one stream again while the stream runs. Most streams end before
// the first interval, so until then a recheck is a timer without a goroutine.
type recheck struct {
	streams     *Streams
	exchange    *exchange
	request     http.Request // a copy, as it was when the decision was taken
	cancel      func()       // ends the request to the upstream, and with it the stream
	timer       *time.Timer
	termination atomic.Pointer[termination] // nil: the gate has not ended the stream
	response    atomic.Int32                // responseNone, responseSized or responseStreaming
	tunnel      *tunnel                     // nil: net/http has the connection. Guarded by the exchange's mu.

	mu      sync.Mutex
	stopped bool               // run must not start
	stop    context.CancelFunc // ends run; nil: run has not started
	done    chan struct{}      // closed when run has returned
}

// The state of the response.
const (
	responseNone      int32 = iota // the response header has not arrived
	responseSized                  // the response has a Content-Length
	responseStreaming              // the response has no length, or is a tunnel
)

// startRecheck takes the decision about x again, every [Streams.recheckInterval], until stopRecheck. cancel
// must end the request to the upstream. startRecheck must be called before the body is read: at the
// end of a body net/http writes the trailer to the request, which the recheck copies.
func (x *exchange) startRecheck(cancel func()) *recheck {
	r := &recheck{streams: x.proxy.streams, exchange: x, request: *x.request, cancel: cancel}
	r.streams.running.Add(1)
	x.recheck = r
	r.timer = time.AfterFunc(r.streams.recheckInterval, r.run)
	return r
}

// stopRecheck ends the recheck, if there is one, and waits for it. The handler must call it before it
// returns.
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

// terminated returns why the gate ended x, or nil if it did not.
func (x *exchange) terminated() *termination {
	if x.recheck == nil {
		return nil
	}
	return x.recheck.termination.Load()
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
			r.termination.Store(why)
			r.cancel()
			r.forceClose(ctx)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-end:
			end = nil // a message with a Content-Length goes on
		case <-tick.C:
		}
	}
}

// forceClose blocks writes to the client until ctx ends. A client that reads nothing could otherwise
// hold the stream open.
func (r *recheck) forceClose(ctx context.Context) {
	tick := time.NewTicker(r.streams.forceCloseInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.exchange.blockWrites()
		}
	}
}

// evaluate takes the decision again. It returns why the stream must end, or nil.
func (r *recheck) evaluate(ctx context.Context) *termination {
	running, unbounded := r.inProgress()
	if !running {
		return nil
	}
	if unbounded && r.streams.draining() {
		return &termination{by: stopping}
	}
	by := r.streams.current()
	before, now := &r.exchange.decision, r.decide(ctx, by)
	switch {
	case ctx.Err() != nil: // the stream has ended, and may have failed the decision with it
		return nil
	case now.Reason != access.Granted:
	case now.API != before.API || now.Partner != before.Partner || now.ClientID != before.ClientID:
		// The upstream has the identity headers of the earlier decision.
		now = access.Decision{Reason: access.APINotAllowed, Err: errCallerChanged}
	case unbounded && !by.upstreams[now.API].SameDestination(r.exchange.proxy.upstreams[now.API]):
		return &termination{by: upstreamChanged}
	default:
		return nil
	}
	return &termination{by: now.Reason.String(), decision: now}
}

// inProgress reports whether the body of the request or of the response is being transferred, and
// whether the length of such a body is unknown. Between the two, while the upstream works, neither
// is. The upstream's timeout bounds that time, and a refusal then would tell the client that nothing
// was done.
func (r *recheck) inProgress() (running, unbounded bool) {
	response := r.response.Load()
	length := r.request.ContentLength
	sending := length != 0 && !r.exchange.bodyRead.Load()
	return sending || response != responseNone, sending && length < 0 || response == responseStreaming
}

var errCallerChanged = errors.New("the request now belongs to another application or to another API")

// decide returns the decision that ServeHTTP of by would take. A panic is Undecided.
func (r *recheck) decide(ctx context.Context, by *Proxy) (d access.Decision) {
	defer func() {
		if v := recover(); v != nil {
			logPanic(ctx, r.exchange.proxy.log, r.exchange.id, v)
			d = access.Decision{Reason: access.Undecided}
		}
	}()
	d, _ = by.Decide(r.request.WithContext(ctx), r.exchange.credentials)
	return d
}

// logPanic logs a panic with its stack. It logs the value v only if v is a runtime.Error, because any
// other value may quote the request.
func logPanic(ctx context.Context, log *slog.Logger, id string, v any) {
	cause := "not a runtime error"
	if fault, ok := v.(runtime.Error); ok {
		cause = fault.Error()
	}
	log.ErrorContext(ctx, "panic", "request_id", id, "cause", cause, "stack", string(debug.Stack()))
}

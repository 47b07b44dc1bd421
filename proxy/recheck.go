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

// An ending is why a stream was ended before its end.
type termination struct {
	by       string // a reason's label, or stopping
	decision access.Decision
}

// refuses reports whether the caller is to be told that his request is not granted.
func (e *termination) refuses() bool { return e.by != stopping && e.by != upstreamChanged }

// A review takes the decision about one stream again while that runs. It begins to work
// when the stream has lasted a while, which most do not; until then it is but a timer.
type recheck struct {
	streams     *Streams
	exchange    *exchange
	request     http.Request // as it was decided about
	cancel      func()       // ends the stream at the upstream, and so everywhere
	timer       *time.Timer
	termination atomic.Pointer[termination] // why it was; nil: it was not
	response    atomic.Int32                // which of the answers below is under way
	tunnel      *tunnel                     // nil: the connection is net/http's. Guarded by the exchange's mu.

	mu      sync.Mutex
	stopped bool               // nothing is to be decided any more
	stop    context.CancelFunc // ends what works; nil: nothing does
	done    chan struct{}      // closed when nothing works any more
}

const (
	responseNone int32 = iota
	responseSized
	responseStreaming // also a tunnel
)

// review has the decision about x taken again until x.settle. It must be called before
// anything reads x's body, since what net/http finds at its end it writes to the request.
func (x *exchange) startRecheck(cut func()) *recheck {
	r := &recheck{streams: x.proxy.streams, exchange: x, request: *x.request, cancel: cut}
	r.streams.running.Add(1)
	x.recheck = r
	r.timer = time.AfterFunc(recheckInterval, r.run)
	return r
}

// settle ends the review, before which the handler must not return.
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

// ended returns why the stream was ended, nil when it was not, or is none.
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

	tick := time.NewTicker(recheckInterval)
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
			end = nil // those with an end of their own go on
		case <-tick.C:
		}
	}
}

// insist cuts the client off, who may hold the stream by taking nothing of it.
func (r *recheck) forceClose(ctx context.Context) {
	tick := time.NewTicker(forceCloseInterval)
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

// judge returns why the stream must end, nil when it may go on.
func (r *recheck) evaluate(ctx context.Context) *termination {
	flows, unbounded := r.inProgress()
	if !flows {
		return nil
	}
	if unbounded && r.streams.draining() {
		return &termination{by: stopping}
	}
	by := r.streams.current()
	before, now := &r.exchange.decision, r.decide(ctx, by)
	switch {
	case ctx.Err() != nil: // it is over, and the decision may be of that
		return nil
	case now.Reason != access.Granted:
	case now.API != before.API || now.Partner != before.Partner || now.ClientID != before.ClientID:
		// The upstream was told of another caller, or is another's now.
		now = access.Decision{Reason: access.APINotAllowed, Err: errCallerChanged}
	case unbounded && !by.upstreams[now.API].SameDestination(r.exchange.proxy.upstreams[now.API]):
		return &termination{by: upstreamChanged}
	default:
		return nil
	}
	return &termination{by: now.Reason.String(), decision: now}
}

// underWay reports whether a message is, and whether one of which nobody knows the end.
// While the upstream thinks, none is: its timeout bounds that, and whoever is told that his
// token has expired takes it that nothing was done.
func (r *recheck) inProgress() (flows, unbounded bool) {
	answer := r.response.Load()
	length := r.request.ContentLength
	sending := length != 0 && !r.exchange.bodyRead.Load()
	return sending || answer != responseNone, sending && length < 0 || answer == responseStreaming
}

var errCallerChanged = errors.New("the same request is now another application's or goes to another API")

// decide takes the decision as ServeHTTP would, also where it panics: that is refused.
func (r *recheck) decide(ctx context.Context, by *Proxy) (d access.Decision) {
	defer func() {
		if v := recover(); v != nil {
			logPanic(ctx, r.exchange.proxy.log, r.exchange.id, v)
			d = access.Decision{Reason: access.Undecided}
		}
	}()
	d, _ = by.Decide(r.request.WithContext(ctx))
	return d
}

// logPanic logs the stack, and the panic's value only when it is the runtime's, for any
// other may quote the request.
func logPanic(ctx context.Context, log *slog.Logger, id string, v any) {
	cause := "not a runtime error"
	if fault, ok := v.(runtime.Error); ok {
		cause = fault.Error()
	}
	log.ErrorContext(ctx, "panic", "request_id", id, "cause", cause, "stack", string(debug.Stack()))
}

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

const (
	// reviewEvery is how often the decision about a stream is taken again.
	reviewEvery = 500 * time.Millisecond
	// insistEvery is how long a stream that is to end may take to heed. With the time of a
	// review it makes less than a second.
	insistEvery = 250 * time.Millisecond
)

// What ends streams beside the reasons of [access.Reason].
const (
	stopping        = "stopping"         // the gate stops
	upstreamChanged = "upstream_changed" // the same request would now go to another upstream
)

// Streams are the requests that may outlive the reason for which they were granted: those
// whose messages are still under way half a second later. The decision about each is taken
// again twice a second, by the Proxy of that moment, and ends it when it would not be
// granted anew. Of those that have no end of their own, which are tunnels and messages that
// say no length, such as server-sent events and gRPC, two things more make an end: see
// [Streams.End], and a configuration by which they would go elsewhere. One serves a gate
// for all its life; it is safe for concurrent use.
type Streams struct {
	current func() *Proxy
	running atomic.Int64
	once    sync.Once
	end     chan struct{} // closed when all are to end
}

// NewStreams returns streams that are decided about by what current returns.
func NewStreams(current func() *Proxy) *Streams {
	return &Streams{current: current, end: make(chan struct{})}
}

// End ends all streams that have no end of their own, and those that are still to come.
func (s *Streams) End() { s.once.Do(func() { close(s.end) }) }

// ending reports whether End was called.
func (s *Streams) ending() bool {
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}

// Wait returns nil when no stream runs, or ctx's error when that ends before.
func (s *Streams) Wait(ctx context.Context) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for s.running.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
	return nil
}

// An ending is why a stream was ended before its end.
type ending struct {
	by       string // a reason's label, or stopping
	decision access.Decision
}

// refuses reports whether the caller is to be told that his request is not granted.
func (e *ending) refuses() bool { return e.by != stopping && e.by != upstreamChanged }

// A review takes the decision about one stream again while that runs. It begins to work
// when the stream has lasted a while, which most do not; until then it is but a timer.
type review struct {
	streams  *Streams
	exchange *exchange
	request  http.Request // as it was decided about
	cut      func()       // ends the stream at the upstream, and so everywhere
	timer    *time.Timer
	ended    atomic.Pointer[ending] // why it was; nil: it was not
	answer   atomic.Int32           // which of the answers below is under way
	tunnel   *tunnel                // nil: the connection is net/http's. Guarded by the exchange's mu.

	mu      sync.Mutex
	settled bool               // nothing is to be decided any more
	stop    context.CancelFunc // ends what works; nil: nothing does
	done    chan struct{}      // closed when nothing works any more
}

const (
	awaited int32 = iota
	measured
	endless // also a tunnel
)

// review has the decision about x taken again until x.settle. It must be called before
// anything reads x's body, since what net/http finds at its end it writes to the request.
func (x *exchange) review(cut func()) *review {
	r := &review{streams: x.proxy.streams, exchange: x, request: *x.request, cut: cut}
	r.streams.running.Add(1)
	x.reviewed = r
	r.timer = time.AfterFunc(reviewEvery, r.run)
	return r
}

// settle ends the review, before which the handler must not return.
func (x *exchange) settle() {
	r := x.reviewed
	if r == nil || r.timer.Stop() {
		return
	}
	r.mu.Lock()
	r.settled = true
	stop, done := r.stop, r.done
	r.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// ended returns why the stream was ended, nil when it was not, or is none.
func (x *exchange) ended() *ending {
	if x.reviewed == nil {
		return nil
	}
	return x.reviewed.ended.Load()
}

func (r *review) run() {
	r.mu.Lock()
	if r.settled {
		r.mu.Unlock()
		return
	}
	ctx, stop := context.WithCancel(r.request.Context())
	done := make(chan struct{})
	r.stop, r.done = stop, done
	r.mu.Unlock()
	defer close(done)
	defer stop()

	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	end := r.streams.end
	for {
		if why := r.judge(ctx); why != nil {
			r.ended.Store(why)
			r.cut()
			r.insist(ctx)
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
func (r *review) insist(ctx context.Context) {
	tick := time.NewTicker(insistEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.exchange.silence()
		}
	}
}

// judge returns why the stream must end, nil when it may go on.
func (r *review) judge(ctx context.Context) *ending {
	flows, unbounded := r.underWay()
	if !flows {
		return nil
	}
	if unbounded && r.streams.ending() {
		return &ending{by: stopping}
	}
	by := r.streams.current()
	before, now := &r.exchange.decision, r.decide(ctx, by)
	switch {
	case ctx.Err() != nil: // it is over, and the decision may be of that
		return nil
	case now.Reason != access.Granted:
	case now.API != before.API || now.Partner != before.Partner || now.ClientID != before.ClientID:
		// The upstream was told of another caller, or is another's now.
		now = access.Decision{Reason: access.APINotAllowed, Err: errOther}
	case unbounded && !by.upstreams[now.API].SameDestination(r.exchange.proxy.upstreams[now.API]):
		return &ending{by: upstreamChanged}
	default:
		return nil
	}
	return &ending{by: now.Reason.String(), decision: now}
}

// underWay reports whether a message is, and whether one of which nobody knows the end.
// While the upstream thinks, none is: its timeout bounds that, and whoever is told that his
// token has expired takes it that nothing was done.
func (r *review) underWay() (flows, unbounded bool) {
	answer := r.answer.Load()
	length := r.request.ContentLength
	sending := length != 0 && !r.exchange.bodyRead.Load()
	return sending || answer != awaited, sending && length < 0 || answer == endless
}

var errOther = errors.New("the same request is now another application's or goes to another API")

// decide takes the decision as ServeHTTP would, also where it panics: that is refused.
func (r *review) decide(ctx context.Context, by *Proxy) (d access.Decision) {
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

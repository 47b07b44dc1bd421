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

// stopping is what ends streams beside the reasons of [access.Reason].
const stopping = "stopping"

// Streams are the requests that may outlive the reason for which they were granted:
// tunnels, and those where a message says no length, such as server-sent events and gRPC.
// The decision about each is taken again twice a second, by the Proxy of that moment, and
// ends it when it would not be granted anew. One serves a gate for all its life; it is
// safe for concurrent use.
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

// End ends all streams, and those that are still to come.
func (s *Streams) End() { s.once.Do(func() { close(s.end) }) }

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

// A review takes the decision about one stream again while that runs. It begins to work
// when the stream has lasted a while: most messages without a length are short.
type review struct {
	streams  *Streams
	exchange *exchange
	request  *http.Request // as it was decided about, with a context that ends with the review
	stop     context.CancelFunc
	cut      func() // ends the stream at the upstream, and so everywhere
	timer    *time.Timer
	done     chan struct{}
	ended    atomic.Pointer[ending] // why it was; nil: it was not
	tunnel   *tunnel                // nil: the connection is net/http's. Guarded by the exchange's mu.
}

// review has the decision about x taken again until x.settle. It must be called before
// anything reads x's body, since what net/http finds at its end it writes to the request.
func (x *exchange) review(cut func()) {
	if x.reviewed != nil {
		return
	}
	ctx, stop := context.WithCancel(x.request.Context())
	r := &review{
		streams: x.proxy.streams, exchange: x, request: x.request.WithContext(ctx),
		stop: stop, cut: cut, done: make(chan struct{}),
	}
	r.streams.running.Add(1)
	x.reviewed = r
	r.timer = time.AfterFunc(reviewEvery, r.run)
}

// settle ends the review, before which the handler must not return.
func (x *exchange) settle() {
	if r := x.reviewed; r != nil {
		r.stop()
		if !r.timer.Stop() {
			<-r.done
		}
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
	defer close(r.done)
	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	for {
		if why := r.judge(); why != nil {
			r.ended.Store(why)
			r.cut()
			r.insist()
			return
		}
		select {
		case <-r.request.Context().Done():
			return
		case <-r.streams.end:
		case <-tick.C:
		}
	}
}

// insist cuts the client off, who may hold the stream by taking nothing of it.
func (r *review) insist() {
	tick := time.NewTicker(insistEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.request.Context().Done():
			return
		case <-tick.C:
			r.exchange.silence()
		}
	}
}

// judge returns why the stream must end, nil when it may go on.
func (r *review) judge() *ending {
	select {
	case <-r.streams.end:
		return &ending{by: stopping}
	default:
	}
	before, now := &r.exchange.decision, r.decide()
	switch {
	case r.request.Context().Err() != nil: // it is over, and the decision may be of that
		return nil
	case now.Reason != access.Granted:
	case now.API != before.API || now.Partner != before.Partner || now.ClientID != before.ClientID:
		// The upstream was told of another caller, or is another's now.
		now = access.Decision{Reason: access.APINotAllowed, Err: errOther}
	default:
		return nil
	}
	return &ending{by: now.Reason.String(), decision: now}
}

var errOther = errors.New("the same request is now another application's or goes to another API")

// decide takes the decision as ServeHTTP would, also where it panics: that is refused.
func (r *review) decide() (d access.Decision) {
	defer func() {
		if v := recover(); v != nil {
			logPanic(r.request.Context(), r.exchange.proxy.log, r.exchange.id, v)
			d = access.Decision{Reason: access.Undecided}
		}
	}()
	d, _ = r.streams.current().Decide(r.request)
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

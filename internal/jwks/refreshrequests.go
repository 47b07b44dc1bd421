package jwks

import (
	"sync"
	"time"
)

// refreshRequests bounds the refreshes that tokens with unknown keys cause, so that a client cannot
// cause many refreshes with made-up keys. There is one refresh in each cool-down, whether or not it
// succeeds. Requests that arrive during a refresh share its result.
type refreshRequests struct {
	coolDown time.Duration
	signal   chan struct{} // wakes Run; its capacity is 1

	mu          sync.Mutex
	running     bool            // Source.Run is running
	nextAllowed time.Time       // end of the cool-down
	current     *pendingRefresh // the refresh that is requested or running; nil without such a refresh
	failed      bool            // the last refresh failed
}

// A pendingRefresh is a refresh that requests may wait for.
type pendingRefresh struct {
	done chan struct{} // closed when the refresh has ended
	err  error         // the result; valid once done is closed
}

// setRunning records whether Source.Run is running. When Run ends, a pending refresh ends without a
// result. Such a refresh does not count as failed and starts no cool-down.
func (w *refreshRequests) setRunning(running bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = running
	if w.current != nil {
		w.nextAllowed = time.Time{}
		w.finish(w.current, errNoKeySet)
	}
}

// request asks for a refresh. It returns the refresh to wait for. Within the cool-down, and while Run
// is not running, it returns nil, and failed says whether the last refresh failed. granted says whether
// this request caused the refresh.
func (w *refreshRequests) request(now time.Time) (wait *pendingRefresh, granted, failed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.current != nil:
		return w.current, false, false
	case !w.running || now.Before(w.nextAllowed):
		return nil, false, w.failed
	}
	w.nextAllowed = now.Add(w.coolDown)
	w.current = &pendingRefresh{done: make(chan struct{})}
	w.wake()
	return w.current, true, false
}

// wake makes Run refresh at once.
func (w *refreshRequests) wake() {
	select {
	case w.signal <- struct{}{}:
	default: // a signal is pending, and the refresh after it also serves this request
	}
}

// start returns the refresh that serves all pending requests. Run calls it before each refresh.
func (w *refreshRequests) start() *pendingRefresh {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.signal:
	default:
	}
	if w.current == nil {
		w.current = &pendingRefresh{done: make(chan struct{})}
	}
	return w.current
}

// done ends the refresh r with its result. Run calls it after each refresh.
func (w *refreshRequests) done(r *pendingRefresh, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = err != nil
	w.finish(r, err)
}

// finish wakes the requests that wait for r.
func (w *refreshRequests) finish(r *pendingRefresh, err error) {
	r.err = err
	w.current = nil
	close(r.done)
}

package jwks

import (
	"sync"
	"time"
)

// wishes are readings that unknown keys ask for. One is granted in a cool-down, whether
// or not the reading then succeeds: who sends made-up keys cannot make us read more
// often than that. Whoever comes while a reading is under way shares it.
type refreshRequests struct {
	coolDown time.Duration
	signal   chan struct{} // holds one wish

	mu          sync.Mutex
	running     bool            // Run is there to read
	nextAllowed time.Time       // before which unknown keys ask in vain
	current     *pendingRefresh // wished for or under way; nil when none is
	failed      bool            // the last reading
}

// A reading is one that requests may wait for.
type pendingRefresh struct {
	done chan struct{} // closed at its end
	err  error         // valid after done
}

// serve says whether there is a Run that reads what is wished for. A reading that its end
// broke off has not failed, and counts for no cool-down.
func (w *refreshRequests) setRunning(served bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = served
	if w.current != nil {
		w.nextAllowed = time.Time{}
		w.finish(w.current, errNoKeySet)
	}
}

// ask wishes for a reading. It returns the one to wait for, or nil within the cool-down
// and where nobody reads, and then whether the last reading failed. granted says that
// this wish made the reading.
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

// wake makes Run read at once.
func (w *refreshRequests) wake() {
	select {
	case w.signal <- struct{}{}:
	default: // a wish is already waiting, and its reading is still to come
	}
}

// begin is called by Run before each reading: it grants every wish there is.
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

// end is called by Run after the reading.
func (w *refreshRequests) done(r *pendingRefresh, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = err != nil
	w.finish(r, err)
}

// over lets those go on who wait for r.
func (w *refreshRequests) finish(r *pendingRefresh, err error) {
	r.err = err
	w.current = nil
	close(r.done)
}

package jwks

import (
	"sync"
	"time"
)

// wishes are readings that unknown keys ask for. One is granted in a cool-down, whether
// or not the reading then succeeds: who sends made-up keys cannot make us read more
// often than that. Whoever comes while a reading is under way shares it.
type wishes struct {
	coolDown time.Duration
	asked    chan struct{} // holds one wish

	mu      sync.Mutex
	served  bool      // Run is there to read
	next    time.Time // before which unknown keys ask in vain
	running *reading  // wished for or under way; nil when none is
	failed  bool      // the last reading
}

// A reading is one that requests may wait for.
type reading struct {
	done chan struct{} // closed at its end
	err  error         // valid after done
}

// serve says whether there is a Run that reads what is wished for. A reading that its end
// broke off has not failed, and counts for no cool-down.
func (w *wishes) serve(served bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.served = served
	if w.running != nil {
		w.next = time.Time{}
		w.over(w.running, errUnread)
	}
}

// ask wishes for a reading. It returns the one to wait for, or nil within the cool-down
// and where nobody reads, and then whether the last reading failed. granted says that
// this wish made the reading.
func (w *wishes) ask(now time.Time) (wait *reading, granted, failed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.running != nil:
		return w.running, false, false
	case !w.served || now.Before(w.next):
		return nil, false, w.failed
	}
	w.next = now.Add(w.coolDown)
	w.running = &reading{done: make(chan struct{})}
	w.wake()
	return w.running, true, false
}

// wake makes Run read at once.
func (w *wishes) wake() {
	select {
	case w.asked <- struct{}{}:
	default: // a wish is already waiting, and its reading is still to come
	}
}

// begin is called by Run before each reading: it grants every wish there is.
func (w *wishes) begin() *reading {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.asked:
	default:
	}
	if w.running == nil {
		w.running = &reading{done: make(chan struct{})}
	}
	return w.running
}

// end is called by Run after the reading.
func (w *wishes) end(r *reading, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = err != nil
	w.over(r, err)
}

// over lets those go on who wait for r.
func (w *wishes) over(r *reading, err error) {
	r.err = err
	w.running = nil
	close(r.done)
}

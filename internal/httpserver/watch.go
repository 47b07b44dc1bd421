package httpserver

import (
	"errors"
	"os"
	"sync"
	"time"
)

// patience is the time between the end of the request body and the start of the watch. Most responses are
// complete earlier, so most requests need only a timer for the watch.
const patience = 100 * time.Millisecond

// A watch detects that the client disconnects while the handler runs: it tries to read one byte. If a byte
// arrives, the client is connected, and the byte belongs to the next request.
type watch struct {
	session  *session
	patience time.Duration
	done     chan struct{} // receives an element when run returns

	mu    sync.Mutex
	timer *time.Timer
	armed bool // the timer has been started for this request
	over  bool // no handler runs

	// The goroutine of run owns these fields until it sends to done. After that, the goroutine of the session owns
	// them.
	one  [1]byte
	read int
	gone bool
}

func (w *watch) init(s *session) {
	w.session, w.patience, w.over, w.done = s, s.server.patience, true, make(chan struct{}, 1)
}

// enable must be called before the handler of each request.
func (w *watch) enable() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over, w.armed = false, false
}

// begin starts the timer. It must be called when the request has been read to its end, by any
// goroutine.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over || w.armed:
		return
	case w.timer == nil:
		w.timer = time.AfterFunc(w.patience, w.run)
	default:
		w.timer.Reset(w.patience)
	}
	w.armed = true
}

// end stops the watch. It returns false if the watch has found that the client has disconnected.
func (w *watch) end() bool {
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return !w.gone
	}
	w.over = true
	if !w.armed || w.timer.Stop() {
		w.mu.Unlock()
		return true
	}
	_ = w.session.conn.read.at(past)
	w.mu.Unlock()
	<-w.done
	if w.read > 0 {
		w.session.early, w.read = append(w.session.early, w.one[0]), 0
	}
	return !w.gone
}

func (w *watch) run() {
	defer func() { w.done <- struct{}{} }()
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return
	}
	_ = w.session.conn.read.at(time.Time{})
	w.mu.Unlock()
	var err error
	w.read, err = w.session.receive(w.one[:])
	if w.read == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		w.gone = true
		w.session.cancel()
	}
}

package fastpath

import (
	"errors"
	"os"
	"sync"
	"time"
)

var errClosed = errors.New("no more requests are served")

// A watch notices that the client leaves while the handler runs. A watch starts to read only after
// Server.Patience. Most answers are complete by then, so for most requests a watch costs only a timer.
// If a watch reads a byte, the byte belongs to the next request.
type watch struct {
	conn  *conn
	timer *time.Timer
	done  chan struct{} // receives one element when run returns

	mu   sync.Mutex
	over bool // the handler has returned

	// The goroutine of run owns these fields until it sends to done. After that, the connection's
	// goroutine owns them.
	one  [1]byte
	read int
	gone bool
}

func (w *watch) init(s *conn) {
	w.conn, w.done = s, make(chan struct{}, 1)
}

// begin starts the timer.
func (w *watch) begin() {
	w.over = false
	if w.timer == nil {
		w.timer = time.AfterFunc(w.conn.server.Patience, w.run)
		return
	}
	w.timer.Reset(w.conn.server.Patience)
}

// end stops the watch and reports whether the client is still connected, as far as is known.
func (w *watch) end() bool {
	if w.timer.Stop() {
		return true
	}
	w.mu.Lock()
	w.over = true
	w.conn.readBy = past
	_ = w.conn.tls.SetReadDeadline(past)
	w.mu.Unlock()
	<-w.done
	if w.read > 0 {
		w.conn.early, w.read = append(w.conn.early, w.one[:]...), 0
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
	_ = w.conn.tls.SetReadDeadline(time.Time{})
	w.mu.Unlock()
	var err error
	w.read, err = w.conn.tls.Read(w.one[:])
	if w.read == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		w.gone = true
		w.conn.cancel()
	}
}

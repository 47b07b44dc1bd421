package http1

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// longestBody is that of the requests that are sent from here. It is what one record of
// TLS holds: a client that has no more to send sends it at once.
const longestBody = 16 << 10

var errLonger = errors.New("the request's body is longer than its Content-Length")

// An ahead is a request's body that is read before the server is told of the request. So a
// slow client holds no connection, and the server never sees half of a request. It can be
// read while it arrives, by one reader.
type ahead struct {
	source  io.ReadCloser
	length  int
	whole   chan struct{} // has one element when err is set
	timer   *time.Timer
	mu      sync.Mutex
	changed sync.Cond
	filled  int
	read    int
	err     error // of source; io.EOF when it has kept its word
	closed  bool
	buffer  [longestBody + 1]byte // with room for the byte that would be too many
}

var aheads = sync.Pool{New: func() any {
	a := &ahead{whole: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	a.changed.L = &a.mu
	return a
}}

func readAhead(source io.ReadCloser, length int) *ahead {
	a := aheads.Get().(*ahead)
	a.source, a.length, a.filled, a.err = source, length, 0, nil
	go a.fill()
	return a
}

func (a *ahead) fill() {
	for filled := 0; ; {
		n, err := a.source.Read(a.buffer[filled : a.length+1])
		filled += n
		switch {
		case filled > a.length:
			err = errLonger
		case isEnd(err) && filled < a.length:
			err = io.ErrUnexpectedEOF
		}
		a.mu.Lock()
		a.filled, a.err = min(filled, a.length), err
		stop := err != nil || a.closed
		a.changed.Broadcast()
		a.mu.Unlock()
		if stop {
			a.whole <- struct{}{}
			return
		}
	}
}

// arrives waits until the body has been read, and reports false where that takes longer than
// patience.
func (a *ahead) arrives(ctx context.Context, patience time.Duration) bool {
	a.timer.Reset(patience)
	defer a.timer.Stop()
	select {
	case <-a.whole:
		return true
	case <-a.timer.C:
	case <-ctx.Done():
	}
	return false
}

// fault, bytes and free are for a body that has arrived.
func (a *ahead) fault() error {
	if isEnd(a.err) {
		return nil
	}
	return a.err
}

func (a *ahead) bytes() []byte { return a.buffer[:a.length] }

func (a *ahead) free() {
	a.source = nil
	aheads.Put(a)
}

// Read waits for what has not been read yet.
func (a *ahead) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.read == a.filled && a.err == nil && !a.closed {
		a.changed.Wait()
	}
	if a.closed {
		return 0, io.ErrClosedPipe
	}
	n := copy(p, a.buffer[a.read:a.filled])
	a.read += n
	if a.read == a.filled {
		return n, a.err
	}
	return n, nil
}

// Close ends the reading.
func (a *ahead) Close() error {
	a.mu.Lock()
	a.closed = true
	a.changed.Broadcast()
	a.mu.Unlock()
	return a.source.Close()
}

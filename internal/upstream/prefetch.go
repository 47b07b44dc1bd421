package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// longestBody is the longest request body that is read before the request is sent: the content of one TLS record, which
// most clients send at once.
const longestBody = 16 << 10

var errLonger = errors.New("the request's body is longer than its Content-Length")

// A prefetchedBody is the body of a request that is read before the request is sent to the server. A
// slow client therefore occupies no connection, and the server never gets a part of a request. One
// goroutine may read the body while the body still arrives.
type prefetchedBody struct {
	source  io.ReadCloser
	length  int
	whole   chan struct{} // receives one element when err is set
	timer   *time.Timer
	mu      sync.Mutex
	changed sync.Cond
	filled  int
	read    int
	err     error // the error of source; io.EOF if the body has the announced length
	closed  bool
	buffer  [longestBody + 1]byte // one byte more than the longest body, to notice a longer body
}

var prefetchedBodies = sync.Pool{New: func() any {
	a := &prefetchedBody{whole: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	a.changed.L = &a.mu
	return a
}}

// prefetch reads the body of r. A body that has arrived needs no goroutine.
func prefetch(r *Request) *prefetchedBody {
	a := prefetchedBodies.Get().(*prefetchedBody)
	a.source, a.length, a.filled, a.err = r.Body, int(r.Length), 0, nil
	if r.Arrived {
		a.fill()
	} else {
		go a.fill()
	}
	return a
}

func (a *prefetchedBody) fill() {
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

// waitComplete waits until the body has been read. It returns false if wait has passed or ctx has ended
// before.
func (a *prefetchedBody) waitComplete(ctx context.Context, wait time.Duration) bool {
	select {
	case <-a.whole:
		return true
	default:
	}
	a.timer.Reset(wait)
	defer a.timer.Stop()
	select {
	case <-a.whole:
		return true
	case <-a.timer.C:
	case <-ctx.Done():
	}
	return false
}

// fault returns the error of reading the body, or nil for a complete body. The methods fault, bytes and
// free may be called only after waitComplete has returned true.
func (a *prefetchedBody) fault() error {
	if isEnd(a.err) {
		return nil
	}
	return a.err
}

func (a *prefetchedBody) bytes() []byte { return a.buffer[:a.length] }

func (a *prefetchedBody) free() {
	a.source = nil
	prefetchedBodies.Put(a)
}

// Read returns bytes of the body. It waits if the next bytes have not arrived yet.
func (a *prefetchedBody) Read(p []byte) (int, error) {
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

// Close stops reading from the client.
func (a *prefetchedBody) Close() error {
	a.mu.Lock()
	a.closed = true
	a.changed.Broadcast()
	a.mu.Unlock()
	return a.source.Close()
}

package http1

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// A responseBody is the body of a response. When it has been read to its end, the connection returns to
// the pool.
type responseBody struct {
	body     io.ReadCloser
	conn     *conn
	socket   *socket // the socket of conn, for Close
	ctx      context.Context
	reusable bool
	arrived  bool        // the whole body had been received when RoundTrip returned
	settled  atomic.Bool // set by the goroutine that returns the connection to the pool or closes it
	mu       sync.Mutex  // held during a read of the body
	err      error       // the error of all further reads; nil while the body owns the connection
}

// Arrived reports whether the whole response body had been received when RoundTrip returned. Reading
// such a body does not wait. Arrived reports false for a response of Transport.Fallback.
func Arrived(body io.ReadCloser) bool {
	b, ok := body.(*responseBody)
	return ok && b.arrived
}

func (b *responseBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.body.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, b.err
}

// Close closes the connection unless the body has been read to its end. It does not read the rest of
// the body, because the rest may be endless.
func (b *responseBody) Close() error {
	if b.settled.CompareAndSwap(false, true) {
		b.socket.sever() // makes a running read fail
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.end(http.ErrBodyReadAfterClose)
	}
	b.err = http.ErrBodyReadAfterClose
	return nil
}

func (b *responseBody) end(err error) {
	b.err = err
	if b.settled.CompareAndSwap(false, true) && isEnd(err) {
		b.conn.rest(b.reusable)
		return
	}
	b.conn.discard()
	switch {
	case isEnd(err): // the body is complete
	case b.ctx.Err() != nil:
		b.err = context.Cause(b.ctx)
	}
}

// isEnd reports whether err says that a body has been read to its end.
func isEnd(err error) bool { return err == io.EOF } //nolint:errorlint // an EOF within another error is not the end of a body

package http1

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// An answerBody is the body of an answer. At its end the connection rests.
type answerBody struct {
	body     io.ReadCloser
	conn     *conn
	socket   *socket // conn's, for Close
	ctx      context.Context
	reusable bool
	arrived  bool        // all of it, before the header was given away
	settled  atomic.Bool // what becomes of the connection: whoever sets it decides
	mu       sync.Mutex  // held while it is being read
	err      error       // of all further reads; nil while there is a connection
}

// Arrived reports whether body, which is an answer's, was received whole before RoundTrip
// returned: reading it waits for nobody. It reports false of an answer by Transport.Others.
func Arrived(body io.ReadCloser) bool {
	b, ok := body.(*answerBody)
	return ok && b.arrived
}

func (b *answerBody) Read(p []byte) (int, error) {
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

// Close ends the connection, unless the body has been read to its end: what is left of it
// may be endless.
func (b *answerBody) Close() error {
	if b.settled.CompareAndSwap(false, true) {
		b.socket.sever() // a read that is under way fails
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.end(http.ErrBodyReadAfterClose)
	}
	b.err = http.ErrBodyReadAfterClose
	return nil
}

func (b *answerBody) end(err error) {
	b.err = err
	if b.settled.CompareAndSwap(false, true) && isEnd(err) {
		b.conn.rest(b.reusable)
		return
	}
	b.conn.discard()
	switch {
	case isEnd(err): // nothing is missing
	case b.ctx.Err() != nil:
		b.err = context.Cause(b.ctx)
	}
}

// isEnd reports whether err says that a body has been read to its end.
func isEnd(err error) bool { return err == io.EOF } //nolint:errorlint // an EOF within another error is none

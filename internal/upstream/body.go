package upstream

import (
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tallygate/tallygate/internal/http1"
)

// usualFields is how many fields most responses have, with those that the gate adds. The fields of a larger
// response are allocated.
const usualFields = 12

// A responseBody is the body of a response. When it has been read to its end, the connection returns to
// the pool.
type responseBody struct {
	response Response
	fields   [usualFields]http1.Field // room for the fields of response
	body     http1.Body
	conn     *conn
	socket   *socket // the socket of conn, for Close
	ctx      context.Context
	reusable bool
	settled  atomic.Bool // set by the goroutine that returns the connection to the pool or closes it
	mu       sync.Mutex  // held during a read of the body
	err      error       // the error of all further reads; nil while the body owns the connection
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
	if !isEnd(err) { // otherwise the body is complete
		b.err = orCause(b.ctx, err)
	}
}

func (b *responseBody) trailer() []http1.Field {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(b.body.Trailer(), func(f http1.Field) bool { return http1.IsHopByHop(f.Name) })
}

// isEnd reports whether err says that a body has been read to its end.
func isEnd(err error) bool { return err == io.EOF } //nolint:errorlint // an EOF within another error is not the end of a body

// A tunnel is a connection that has switched to another protocol. The end of the context of its request closes it.
type tunnel struct {
	conn    *conn
	unwatch func() bool
}

// Read returns the bytes that came with the head of the response, and then further bytes.
func (t *tunnel) Read(p []byte) (int, error) { return t.conn.In.Read(p) }

func (t *tunnel) Write(p []byte) (int, error) { return t.conn.stream.Write(p) }

// CloseWrite closes the direction to the server.
func (t *tunnel) CloseWrite() error {
	return t.conn.stream.(interface{ CloseWrite() error }).CloseWrite()
}

// Close closes the connection without a TLS close_notify, which could block. Any goroutine may call it.
func (t *tunnel) Close() error {
	t.conn.socket.sever()
	t.unwatch()
	return nil
}

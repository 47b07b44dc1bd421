package proxy

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/internal/http1"
)

// A clientConn is the client's connection, or its HTTP/2 stream, during one request. It sets the
// deadlines of the connection, and knows whether the gate has ended the request. The transport reads
// the request body on a goroutine of its own, and the recheck ends the stream. So any goroutine may
// use a clientConn, even after the handler has returned, but only the handler may use writer and
// control.
type clientConn struct {
	writer      http.ResponseWriter
	fields      http1.ResponseWriter        // writer, if it takes fields in their order and spelling; nil over HTTP/2
	stall       time.Duration               // how long the client may take to send or to accept the next bytes
	termination atomic.Pointer[termination] // why the gate ended the stream; nil before
	mu          sync.Mutex
	handlerDone bool    // the handler is done, and from now on the server sets the deadlines. Guarded by mu.
	tunnel      *tunnel // nil while the server has the connection. Guarded by mu; only the handler sets it.
}

// past is a deadline that makes a read or a write fail at once.
var past = time.Unix(1, 0)

func (c *clientConn) control() *http.ResponseController { return http.NewResponseController(c.writer) }

// closeAfter closes the connection after the response, whose header has not been sent. Over HTTP/2 it
// lets the running streams end first.
func (c *clientConn) closeAfter() {
	if c.fields != nil {
		c.fields.CloseAfter()
		return
	}
	c.writer.Header().Set("Connection", "close")
}

// bodyArrived reports whether reading the body of the request does not wait for the client. It must be called
// before the first read. Over HTTP/2 it is not known.
func (c *clientConn) bodyArrived() bool { return c.fields != nil && c.fields.BodyArrived() }

// terminated returns why the gate ended the stream, or nil if it did not.
func (c *clientConn) terminated() *termination { return c.termination.Load() }

// mayRead reports whether the handler runs and the gate has not terminated the stream. If mayRead
// returns false, the connection may already serve another request.
func (c *clientConn) mayRead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.handlerDone && c.terminated() == nil
}

// setReadDeadline sets the deadline for the next bytes of the request body if mayRead returns true.
// It returns the result of mayRead.
func (c *clientConn) setReadDeadline(deadline time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handlerDone || c.terminated() != nil {
		return false
	}
	_ = c.control().SetReadDeadline(deadline)
	return true
}

// interruptRead makes a read from the client fail at once, unless the handler has returned.
func (c *clientConn) interruptRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.handlerDone {
		_ = c.control().SetReadDeadline(past)
	}
}

// setWriteDeadline sets the write deadline. It ignores the error of a ResponseWriter without
// deadlines, as in a benchmark.
func (c *clientConn) setWriteDeadline(deadline time.Time) {
	_ = c.control().SetWriteDeadline(deadline)
}

// blockWrites makes all further writes to the client fail, until the handler returns. Over HTTP/2 it
// resets the stream. If the stream is a tunnel, it closes the tunnel.
func (c *clientConn) blockWrites() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.handlerDone:
	case c.tunnel != nil:
		c.tunnel.closeNow()
	default:
		c.setWriteDeadline(past)
	}
}

// finish returns the connection to the server. Afterwards no other goroutine sets a deadline.
func (c *clientConn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handlerDone = true
}

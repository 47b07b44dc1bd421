package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
)

// A requestBody reads the body of a request from the client, with a deadline of one stall timeout for
// each read. The transport may read the body on a goroutine of its own, even after the handler has
// returned.
type requestBody struct {
	source         io.Reader // the body of the server, set by limit
	conn           *clientConn
	http1          bool // the request came over HTTP/1
	exists         bool // the request announces a body
	mayPause       bool // the request is a gRPC stream, whose body has no deadline
	readToEnd      atomic.Bool
	buffered       bufferedBody          // the body with its first bytes, set by awaitFirstByte
	fault          atomic.Pointer[error] // the error with which reading the body ended
	readInProgress sync.Mutex            // held during a read
}

// limit returns body as the body for the upstream. Reads fail after size bytes. MaxBytesReader gets
// no ResponseWriter, because the transport reads the body on a goroutine of its own, which must not
// touch the response.
func (b *requestBody) limit(body io.Reader, size int64) io.ReadCloser {
	b.source = body
	return http.MaxBytesReader(nil, b, size)
}

// Read reads bytes of the body within one stall timeout.
func (b *requestBody) Read(p []byte) (int, error) {
	b.readInProgress.Lock()
	defer b.readInProgress.Unlock()
	if !b.setReadDeadline(time.Now().Add(b.conn.stall)) {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.source.Read(p)
	if err != nil {
		if err == io.EOF {
			b.readToEnd.Store(true)
		} else {
			b.fault.Store(&err)
		}
		// From now on the server reads in the background, to detect that the client disconnects. It
		// would treat a passed deadline as a disconnect.
		b.setReadDeadline(time.Time{})
	}
	return n, err
}

// Close does nothing. The transport may close the body before the handler has returned, and net/http's
// body would read its rest when it is closed.
func (b *requestBody) Close() error { return nil }

// setReadDeadline sets the deadline for the next bytes of the body. It returns false, and sets no
// deadline, if the handler has returned or the gate has terminated the stream, because the connection
// may then serve another request. A gRPC stream has no deadline, because it may pause as long as it
// is granted; net/http detects by pings that the client has disconnected.
func (b *requestBody) setReadDeadline(deadline time.Time) bool {
	if b.mayPause {
		return b.conn.mayRead()
	}
	return b.conn.setReadDeadline(deadline)
}

// interrupt makes a read of the body fail at once, because the transport waits for such a read even after
// its request has been cancelled. After the termination of the stream no further read begins.
func (b *requestBody) interrupt() {
	if !b.readToEnd.Load() {
		b.conn.interruptRead()
	}
}

// isUnread reports whether an HTTP/1 body has not been read to its end. If so, the connection must be
// closed after the response, because the start of the next request must not depend on timing (RFC 9112
// section 9.3).
func (b *requestBody) isUnread() bool {
	return b.http1 && b.exists && !b.readToEnd.Load()
}

// mustClose reports whether the HTTP/1 connection must be closed because the gate has terminated the
// stream. If the request body ended at the moment of the termination, the read deadline of interrupt
// affects the background read of net/http instead of a read of the body. net/http then assumes that the
// client has disconnected, and cancels every later request on the connection.
func (b *requestBody) mustClose() bool {
	return b.http1 && b.conn.terminated() != nil
}

// mayPause reports whether the client may pause for longer than the stall timeout while it sends the
// body of a request with header h to an upstream over protocol. Only the client of a gRPC stream may.
func mayPause(h http.Header, protocol config.UpstreamProtocol) bool {
	kind, isGRPC := strings.CutPrefix(h.Get("Content-Type"), "application/grpc")
	return protocol != config.HTTP1 && isGRPC && (kind == "" || kind[0] == '+' || kind[0] == ';')
}

// abandon makes further reads of an HTTP/1 body fail if the body has not been read to its end. The
// transport may still read the body, the server would skip the rest of the body to find the next
// request, and both reads could wait for the client. The handler must be done. abandon waits until a
// read in progress has returned, because net/http then clears the deadline that makes the read
// return.
func (b *requestBody) abandon() {
	if !b.isUnread() {
		return
	}
	_ = b.conn.control().SetReadDeadline(past)
	b.conn.linger()
	b.readInProgress.Lock()
	defer b.readInProgress.Unlock()
}

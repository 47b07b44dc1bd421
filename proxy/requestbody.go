package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/upstream"
)

// A requestBody reads the body of a request from the client, with a deadline of one stall timeout for
// each read. The transport may read the body on a goroutine of its own, even after the handler has
// returned. Read must not be called concurrently; Close may be called at any time.
type requestBody struct {
	source    io.Reader // the body of the server, with a limit; set by makeRequest
	conn      *clientConn
	mayPause  bool // the request is a gRPC stream, whose body has no deadline
	readToEnd atomic.Bool
	fault     atomic.Pointer[error] // the error with which reading the body ended

	first  *[firstBytes]byte // what awaitFirstByte has read; nil once Read has returned it
	unread []byte            // the part of first that Read has not returned
	err    error             // the error of the read that filled first
}

// firstBytes bounds the part of a request body that the gate reads before it sends the request to the
// upstream. A body that is not larger is read completely.
const firstBytes = 4 << 10

// firstBytesPool has the buffers for first bytes. A buffer returns to the pool when all its bytes have been
// read, and not if the request ends earlier.
var firstBytesPool = sync.Pool{New: func() any { return new([firstBytes]byte) }}

// awaitFirstByte waits for the first byte or the end of the body of out, the request to the upstream. If a
// client announces a body and sends no byte, the stall timeout ends the request here, so the request uses
// no connection and no worker of the upstream. The fault of a body that is malformed or too large within its
// first bytes ends the request here too. gRPC is exempt, because its clients may wait for the
// server's header before they send a message.
func (b *requestBody) awaitFirstByte(out *upstream.Request) error {
	if out.Body == nil || b.mayPause {
		return nil
	}
	buffer := firstBytesPool.Get().(*[firstBytes]byte)
	n, err := 0, error(nil)
	for n == 0 && err == nil {
		n, err = b.Read(buffer[:])
	}
	out.Arrived = err == io.EOF //nolint:errorlint // an EOF within another error is not the end of the body
	if err != nil && !out.Arrived {
		firstBytesPool.Put(buffer)
		return err
	}
	b.first, b.unread, b.err = buffer, buffer[:n], err
	return nil
}

// Read returns the first bytes, and then reads bytes of the body within one stall timeout.
func (b *requestBody) Read(p []byte) (n int, err error) {
	switch {
	case b.first != nil:
		n = copy(p, b.unread)
		if b.unread = b.unread[n:]; len(b.unread) > 0 {
			return n, nil
		}
		firstBytesPool.Put(b.first)
		b.first = nil
		return n, b.err
	case b.err != nil:
		return 0, b.err
	case !b.setReadDeadline(time.Now().Add(b.conn.stall)):
		return 0, http.ErrBodyReadAfterClose
	}
	n, err = b.source.Read(p)
	if err != nil {
		if err == io.EOF {
			b.readToEnd.Store(true)
		} else {
			fault := err // so that only a fault allocates
			b.fault.Store(&fault)
		}
		// From now on the server may read in the background, to detect that the client disconnects.
		b.setReadDeadline(time.Time{})
	}
	return n, err
}

// Close does nothing, because the server ends the body after the handler.
func (b *requestBody) Close() error { return nil }

// setReadDeadline sets the deadline for the next bytes of the body. It returns false, and sets no
// deadline, if the handler has returned or the gate has terminated the stream, because the connection
// may then serve another request. A gRPC stream has no deadline, because it may pause as long as it
// is granted; the server detects by pings that the client has disconnected.
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

// mayPause reports whether the client may pause for longer than the stall timeout while it sends the
// body of a request with header h to an upstream over protocol. Only the client of a gRPC stream may.
func mayPause(h http.Header, protocol config.UpstreamProtocol) bool {
	kind, isGRPC := strings.CutPrefix(h.Get("Content-Type"), "application/grpc")
	return protocol != config.HTTP1 && isGRPC && (kind == "" || kind[0] == '+' || kind[0] == ';')
}

package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tallygate/tallygate/config"
)

// firstBytes bounds the part of a request body that the gate reads before it sends the request to the
// upstream. A body that is not larger is read completely.
const firstBytes = 4 << 10

var firstBytesPool = sync.Pool{New: func() any { return new([firstBytes]byte) }}

// A bufferedBody is a request body whose first bytes have been read into a buffer. Read must not be
// called concurrently; Close may be called at any time.
type bufferedBody struct {
	io.ReadCloser
	buffer *[firstBytes]byte // nil once Read has returned all bytes of the buffer
	unread []byte            // the part of buffer that Read has not returned
	err    error             // the error of the read that filled the buffer
}

// Read returns the buffered bytes first, and then the rest of the body.
func (b *bufferedBody) Read(p []byte) (int, error) {
	if b.buffer == nil {
		if b.err != nil {
			return 0, b.err
		}
		return b.ReadCloser.Read(p)
	}
	n := copy(p, b.unread)
	if b.unread = b.unread[n:]; len(b.unread) > 0 {
		return n, nil
	}
	firstBytesPool.Put(b.buffer)
	b.buffer = nil
	return n, b.err
}

// awaitFirstByte waits for the first byte or the end of r's body and returns the request to send to
// the upstream. If a client announces a body and sends no byte, the stall timeout ends the request
// here, so the request uses no connection and no worker of the upstream. gRPC is exempt, because its
// clients may wait for the server's header before they send a message.
func (x *exchange) awaitFirstByte(r *http.Request) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody || x.bodyMayPause {
		return r, nil
	}
	buffer := firstBytesPool.Get().(*[firstBytes]byte)
	n, err := 0, error(nil)
	for n == 0 && err == nil {
		n, err = r.Body.Read(buffer[:])
	}
	if n == 0 && err != io.EOF { //nolint:errorlint // an EOF within another error is not the end of the body
		firstBytesPool.Put(buffer)
		_ = r.Body.Close()
		return nil, err
	}
	x.bufferedBody = bufferedBody{ReadCloser: r.Body, buffer: buffer, unread: buffer[:n], err: err}
	out := *r
	out.Body = &x.bufferedBody
	return &out, nil
}

// mayPause reports whether the client may pause for longer than the stall timeout while it sends the
// body of a request with header h to an upstream over protocol. Only the client of a gRPC stream may.
func mayPause(h http.Header, protocol config.UpstreamProtocol) bool {
	kind, isGRPC := strings.CutPrefix(h.Get("Content-Type"), "application/grpc")
	return protocol != config.HTTP1 && isGRPC && (kind == "" || kind[0] == '+' || kind[0] == ';')
}

// interruptBody makes a read of the request body fail at once, because the transport waits for such a
// read even after its request has been cancelled. After the termination of x no further read begins.
func (x *exchange) interruptBody() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.handlerDone && !x.bodyRead.Load() {
		_ = x.control.SetReadDeadline(time.Unix(1, 0))
	}
}

// mustClose reports whether the HTTP/1 connection must be closed because the gate has terminated the
// stream. If the request body ended at the moment of the termination, the read deadline of
// interruptBody affects the background read of net/http instead of a read of the body. net/http then
// assumes that the client has disconnected, and cancels every later request on the connection.
func (x *exchange) mustClose() bool { return x.request.ProtoMajor == 1 && x.terminated() != nil }

// setReadDeadline sets the deadline for the next bytes of the body. It returns false, and sets no
// deadline, if the handler has returned or the gate has terminated the stream, because the connection
// may then serve another request. A gRPC stream has no deadline, because it may pause as long as it
// is granted; net/http detects by pings that the client has disconnected.
func (x *exchange) setReadDeadline(deadline time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.handlerDone || x.terminated() != nil {
		return false
	}
	if !x.bodyMayPause {
		_ = x.control.SetReadDeadline(deadline)
	}
	return true
}

// bodyUnread reports whether an HTTP/1 body has not been read to its end. If so, the connection must
// be closed after the response, because the start of the next request must not depend on timing (RFC
// 9112 section 9.3).
func (x *exchange) bodyUnread() bool {
	r := x.request
	return r.ProtoMajor == 1 && r.Body != nil && r.Body != http.NoBody && !x.bodyRead.Load()
}

// A stallingBody reads a request body with a deadline of one stall timeout for each read.
type stallingBody struct {
	io.ReadCloser
	exchange *exchange
}

func (b *stallingBody) Read(p []byte) (int, error) {
	x := b.exchange
	x.bodyReadMu.Lock()
	defer x.bodyReadMu.Unlock()
	if !x.setReadDeadline(time.Now().Add(x.proxy.stall)) {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if err == io.EOF {
			x.bodyRead.Store(true)
		} else {
			x.bodyFault.Store(&err)
		}
		// From now on the server reads in the background, to detect that the client disconnects. It
		// would treat a passed deadline as a disconnect.
		x.setReadDeadline(time.Time{})
	}
	return n, err
}

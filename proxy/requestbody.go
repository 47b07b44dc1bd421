package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tallygate/tallygate/config"
)

// firstBytes is how much of a request's body is read before the upstream hears of the request:
// the whole of a small one.
const firstBytes = 4 << 10

var firstBytesPool = sync.Pool{New: func() any { return new([firstBytes]byte) }}

// A begunBody is a request's body whose first bytes have arrived. One goroutine at a time reads
// it; Close may be called at any time.
type bufferedBody struct {
	io.ReadCloser
	buffer *[firstBytes]byte // nil once all of it has been read
	unread []byte            // of buffer
	err    error             // that followed the first bytes
}

// Read returns the first bytes, and then what follows them.
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

// awaitBody waits for the first byte of r's body, or for its end, and returns the request to send
// to the upstream. A client that announces a body and sends none takes no connection and no
// worker of the upstream: the stall timeout ends the request first. gRPC is exempt, because its
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
	begun := *r
	begun.Body = &x.bufferedBody
	return &begun, nil
}

// mayPause reports whether the body of a request with header h to an upstream that is spoken to
// over protocol may pause for longer than the stall timeout: a gRPC stream may be quiet for as
// long as both sides like.
func mayPause(h http.Header, protocol config.UpstreamProtocol) bool {
	kind, isGRPC := strings.CutPrefix(h.Get("Content-Type"), "application/grpc")
	return protocol != config.HTTP1 && isGRPC && (kind == "" || kind[0] == '+' || kind[0] == ';')
}

// interrupt ends the reading of the body, which the transport waits for even where its
// request is cancelled. No other begins once x has been ended.
func (x *exchange) interruptBody() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.handlerDone && !x.bodyRead.Load() {
		_ = x.control.SetReadDeadline(time.Unix(1, 0))
	}
}

// interrupted reports whether the connection may have been, since x has been ended. Where
// the body came to its end at that moment, it was not the body's reading that was
// interrupted but the watch that net/http then keeps on the client, to which that has gone,
// and so have all who ask on this connection after him.
func (x *exchange) mustClose() bool { return x.request.ProtoMajor == 1 && x.terminated() != nil }

// readBy sets the deadline for the next bytes of the body and reports whether the handler still
// runs. Once it has returned, the connection serves another request or is closed. A gRPC stream
// has no such deadline: it may be quiet for as long as the decision about it holds, and net/http
// notices by a ping that its client is gone.
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

// unread reports whether bytes of an HTTP/1 body are still to come or to be read. The
// connection is then of no further use: where one message ends and the next begins must
// never be a matter of timing (RFC 9112 section 9.3).
func (x *exchange) bodyUnread() bool {
	r := x.request
	return r.ProtoMajor == 1 && r.Body != nil && r.Body != http.NoBody && !x.bodyRead.Load()
}

// ambiguous reports whether a front proxy, whose connection carries the requests of many
// clients, may see the end of this request elsewhere: it is chunked, or of HTTP/1.0, which has
// no chunks and whose connections do not persist everywhere. Malformed requests do not come
// this far; the connection ends after these well-formed ones too (RFC 9112 sections 6.1 and
// 9.3), because what followed could carry a certificate header of its sender's choosing.
func (x *exchange) ambiguous() bool {
	r := x.request
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) && x.proxy.steps.Trust.BehindProxy()
}

// A stallingBody gives the client another stall timeout for each part of a body,
// and no more.
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
		// The server goes on reading to notice that the client leaves; a deadline
		// left behind would look like that.
		x.setReadDeadline(time.Time{})
	}
	return n, err
}

package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/tallygate/tallygate/config"
)

// firstBytes is how much of a request's body is read before the upstream hears of the request:
// the whole of a small one.
const firstBytes = 4 << 10

var beginnings = sync.Pool{New: func() any { return new([firstBytes]byte) }}

// A begunBody is a request's body whose first bytes have arrived. One goroutine at a time reads
// it; Close may be called at any time.
type begunBody struct {
	io.ReadCloser
	buffer *[firstBytes]byte // nil once all of it has been read
	unread []byte            // of buffer
	err    error             // that followed the first bytes
}

// Read returns the first bytes, and then what follows them.
func (b *begunBody) Read(p []byte) (int, error) {
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
	beginnings.Put(b.buffer)
	b.buffer = nil
	return n, b.err
}

// awaitBody waits for the first byte of r's body, or for its end, and returns the request to send
// to the upstream. A client that announces a body and sends none takes no connection and no
// worker of the upstream: the stall timeout ends the request first. gRPC is exempt, because its
// clients may wait for the server's header before they send a message.
func (x *exchange) awaitBody(r *http.Request) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody || x.paused {
		return r, nil
	}
	buffer := beginnings.Get().(*[firstBytes]byte)
	n, err := 0, error(nil)
	for n == 0 && err == nil {
		n, err = r.Body.Read(buffer[:])
	}
	if n == 0 && err != io.EOF { //nolint:errorlint // an EOF within another error is not the end of the body
		beginnings.Put(buffer)
		_ = r.Body.Close()
		return nil, err
	}
	x.begun = begunBody{ReadCloser: r.Body, buffer: buffer, unread: buffer[:n], err: err}
	begun := *r
	begun.Body = &x.begun
	return &begun, nil
}

// mayPause reports whether the body of a request with header h to an upstream that is spoken to
// over protocol may pause for longer than the stall timeout: a gRPC stream may be quiet for as
// long as both sides like.
func mayPause(h http.Header, protocol config.UpstreamProtocol) bool {
	kind, isGRPC := strings.CutPrefix(h.Get("Content-Type"), "application/grpc")
	return protocol != config.HTTP1 && isGRPC && (kind == "" || kind[0] == '+' || kind[0] == ';')
}

package proxy

import (
	"io"
	"sync"

	"github.com/tallygate/tallygate/internal/upstream"
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

// awaitFirstByte waits for the first byte or the end of the body of out, the request to the upstream. If a
// client announces a body and sends no byte, the stall timeout ends the request here, so the request uses
// no connection and no worker of the upstream. gRPC is exempt, because its clients may wait for the
// server's header before they send a message.
func (b *requestBody) awaitFirstByte(out *upstream.Request) error {
	if out.Body == nil || b.mayPause {
		return nil
	}
	buffer := firstBytesPool.Get().(*[firstBytes]byte)
	n, err := 0, error(nil)
	for n == 0 && err == nil {
		n, err = out.Body.Read(buffer[:])
	}
	if n == 0 && err != io.EOF { //nolint:errorlint // an EOF within another error is not the end of the body
		firstBytesPool.Put(buffer)
		return err
	}
	b.buffered = bufferedBody{ReadCloser: out.Body, buffer: buffer, unread: buffer[:n], err: err}
	out.Body, out.Arrived = &b.buffered, err == io.EOF //nolint:errorlint // as above
	return nil
}

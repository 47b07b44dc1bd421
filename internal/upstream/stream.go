package upstream

import (
	"bufio"
	"context"
	"io"
	"sync"
	"time"

	"github.com/tallygate/tallygate/internal/http1"
)

// stream sends r while its body arrives, on a new connection that serves no other request. The server may
// respond before the whole body has been sent, and the rest of the body could then be taken for the next
// request. A new connection costs little beside a body of 16 KiB or 100 ms.
func (t *Client) stream(ctx context.Context, r *Request, body io.ReadCloser) (*Response, error) {
	c, err := t.connect(ctx)
	if err != nil {
		_ = body.Close()
		return nil, orCause(ctx, err)
	}
	c.begin(ctx)
	r.writeHead(c.out, r.Length)
	if err := c.out.Flush(); err != nil {
		_ = body.Close()
		return nil, c.fail(ctx, err)
	}
	c.socket.watch() // before another goroutine uses the socket
	c.socket.expect(time.Time{})
	s := &sender{conn: c, body: body, length: r.Length}
	go s.run()
	head, _, err := c.readHead(r)
	if failed := s.responded(); err != nil {
		if failed != nil {
			err = failed
		}
		return nil, c.fail(ctx, err)
	}
	return c.respond(ctx, r, &head, false), nil
}

// A sender sends the body of a request on a goroutine of its own.
type sender struct {
	conn   *conn
	body   io.ReadCloser
	length int64 // or http1.Chunked

	mu        sync.Mutex
	answering bool  // the head of the response has been read
	err       error // why the body was not sent
}

// A sendBuffer is lent to a sender. A chunk of the size of content fits into out.
type sendBuffer struct {
	content [32 << 10]byte
	out     *bufio.Writer
}

var sendBuffers = sync.Pool{New: func() any { return &sendBuffer{out: bufio.NewWriterSize(nil, 33<<10)} }}

// run sends the body. If the body is incomplete, run closes the connection, so that the server never takes
// it for complete.
func (s *sender) run() {
	buffer := sendBuffers.Get().(*sendBuffer)
	incomplete, err := s.send(buffer)
	buffer.out.Reset(nil)
	sendBuffers.Put(buffer)
	_ = s.body.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	switch {
	case incomplete:
		s.conn.socket.sever()
	case !s.answering:
		_ = s.conn.socket.SetReadDeadline(time.Now().Add(s.conn.client.HeaderTimeout))
	}
}

// responded is called when the head of the response has been read or cannot be read. It returns the error
// of sending the body.
func (s *sender) responded() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answering = true
	_ = s.conn.socket.SetReadDeadline(time.Time{})
	return s.err
}

// send sends the body. incomplete reports that body has returned an error or has another length than
// announced; the server then has not received a whole body.
func (s *sender) send(buffer *sendBuffer) (incomplete bool, err error) {
	buffer.out.Reset(s.conn.stream)
	left := s.length
	for {
		n, readErr := s.body.Read(buffer.content[:])
		content := buffer.content[:n]
		if s.length != http1.Chunked {
			if left -= int64(n); left == 0 && readErr == nil { // the last bytes are sent after the end of the body
				var excess [1]byte
				n, readErr = io.ReadFull(s.body, excess[:])
				left -= int64(n)
			}
			switch {
			case left < 0:
				return true, errLonger
			case left > 0 && isEnd(readErr):
				return true, io.ErrUnexpectedEOF
			}
		}
		if readErr != nil && !isEnd(readErr) {
			return true, readErr
		}
		switch {
		case len(content) == 0:
		case s.length == http1.Chunked:
			_ = http1.WriteChunk(buffer.out, content)
		default:
			_, _ = buffer.out.Write(content)
		}
		if s.length == http1.Chunked && isEnd(readErr) {
			_ = http1.WriteLastChunk(buffer.out, nil)
		}
		if err := buffer.out.Flush(); err != nil || isEnd(readErr) {
			return false, err
		}
	}
}

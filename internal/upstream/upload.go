package upstream

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/internal/http1"
)

// longestBody is the longest request body that is read before the request is sent: the content of one TLS
// record, which most clients send at once.
const longestBody = 16 << 10

var errLonger = errors.New("the request's body is longer than its Content-Length")

// An upload reads the body of a request. At first it keeps the body, so that a slow client occupies no
// connection and the server never gets a part of a request. After start, it sends the body while the
// body arrives, on a goroutine of its own.
type upload struct {
	body    io.ReadCloser
	chunked bool
	left    int64         // bytes that the Content-Length still announces
	ended   chan struct{} // receives one element at the end of run
	timer   *time.Timer
	users   atomic.Int32 // the goroutines that use u: run's, and RoundTrip's

	mu        sync.Mutex
	kept      int   // bytes in content that have not been sent
	conn      *conn // nil before start
	answering bool  // the head of the response has been read
	err       error // why run has ended; io.EOF if the whole body has been read and sent

	content [longestBody]byte
	excess  [1]byte // notices a body that is longer than announced
}

var uploads = sync.Pool{New: func() any {
	return &upload{ended: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
}}

func newUpload(r *Request) *upload {
	u := uploads.Get().(*upload)
	u.body, u.chunked, u.left = r.Body, r.Length == http1.Chunked, r.Length
	u.kept, u.conn, u.answering, u.err = 0, nil, false, nil
	u.users.Store(2)
	select {
	case <-u.ended:
	default:
	}
	return u
}

// waitWhole waits until run has ended, and returns true. It returns false if wait passes or ctx ends first;
// the goroutine of run then continues. If arrived is true, reading the body does not wait, so waitWhole calls
// run without a new goroutine.
func (u *upload) waitWhole(ctx context.Context, wait time.Duration, arrived bool) bool {
	if arrived {
		u.run()
		return true
	}
	go u.run()
	u.timer.Reset(wait)
	defer u.timer.Stop()
	select {
	case <-u.ended:
		return true
	case <-u.timer.C:
	case <-ctx.Done():
	}
	return false
}

// run reads the body to its end. If a body that is being sent is incomplete, run closes the connection, so that
// the server never takes the body for complete.
func (u *upload) run() {
	incomplete, err := u.copy()
	_ = u.body.Close()
	u.mu.Lock()
	u.err = err
	switch {
	case u.conn == nil:
	case incomplete:
		u.conn.socket.sever()
	case !u.answering:
		_ = u.conn.socket.SetReadDeadline(time.Now().Add(u.conn.client.HeaderTimeout))
	}
	u.mu.Unlock()
	u.ended <- struct{}{}
	u.release()
}

// copy reads the body into content until start is called, and sends it afterwards. incomplete is true if a
// read of the body fails, or if the body has another length than its Content-Length.
func (u *upload) copy() (incomplete bool, err error) {
	var out *bufio.Writer // for chunked bodies; has room for the largest chunk, so a chunk is one write
	for from := 0; ; {
		n, end := u.read(u.content[from:])
		if end != nil && !isEnd(end) {
			return true, end
		}
		u.mu.Lock()
		c := u.conn
		if c == nil {
			from += n
			u.kept = from
		}
		u.mu.Unlock()
		switch {
		case c == nil:
		case u.chunked:
			if out == nil {
				out = bufio.NewWriterSize(c.stream, len(u.content)+64)
			}
			if n > 0 {
				_ = http1.WriteChunk(out, u.content[from:from+n])
			}
			if isEnd(end) {
				_ = http1.WriteLastChunk(out, nil)
			}
			err = out.Flush()
		case n > 0:
			_, err = c.stream.Write(u.content[from : from+n])
		}
		if c != nil {
			from = 0
		}
		if err != nil || end != nil {
			return false, cmp.Or(err, end)
		}
	}
}

// read reads from the body. With the last bytes of a body with a Content-Length, it also returns io.EOF, or the
// error of a body that has another length.
func (u *upload) read(p []byte) (n int, err error) {
	n, err = u.body.Read(p)
	if u.chunked {
		return n, err
	}
	if u.left -= int64(n); u.left == 0 && err == nil {
		var more int
		more, err = io.ReadFull(u.body, u.excess[:])
		u.left -= int64(more)
	}
	switch {
	case u.left < 0:
		err = errLonger
	case u.left > 0 && isEnd(err):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// start sends the head of r and the kept part of the body on c. Afterwards run sends the rest.
func (u *upload) start(c *conn, r *Request) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil && !isEnd(u.err) {
		return u.err
	}
	r.writeHead(c.Out, r.Length)
	_, _ = c.Out.Write(u.content[:u.kept])
	if err := c.Out.Flush(); err != nil {
		return err
	}
	c.socket.watch() // before two goroutines use the socket
	c.socket.expect(time.Time{})
	u.conn = c
	if u.err != nil { // run has ended
		_ = c.socket.SetReadDeadline(time.Now().Add(c.client.HeaderTimeout))
	}
	return nil
}

// responded is called when the head of the response has been read or cannot be read. It returns the error
// of sending the body.
func (u *upload) responded() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answering = true
	_ = u.conn.socket.SetReadDeadline(time.Time{})
	return u.fault()
}

// fault returns the error of reading or sending the body.
func (u *upload) fault() error {
	if isEnd(u.err) {
		return nil
	}
	return u.err
}

func (u *upload) release() {
	if u.users.Add(-1) == 0 {
		u.body, u.conn = nil, nil
		uploads.Put(u)
	}
}

package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"time"
)

// A conn is a connection to the server. It belongs to one request, or to the pool.
type conn struct {
	transport *Transport
	socket    *socket
	stream    net.Conn // the socket, or TLS upon it
	state     *tls.ConnectionState
	*buffers        // nil while it is idle
	budget    int64 // what may still be read
	received  bool  // something of the answer
	idleSince time.Time
	unasked   [len(timeoutStatus)]byte // the first bytes that came while it was idle
}

// buffers are lent to a connection while it serves a request.
type buffers struct {
	in  *bufio.Reader
	out *bufio.Writer
}

// 4 KiB each are the sizes of http.Transport.
var spare = sync.Pool{New: func() any { return &buffers{bufio.NewReaderSize(nil, 4<<10), bufio.NewWriterSize(nil, 4<<10)} }}

// connect opens a connection.
func (t *Transport) connect(ctx context.Context) (*conn, error) {
	plain, err := t.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{transport: t, socket: newSocket(plain)}
	c.stream = c.socket
	if t.TLS == nil {
		return c, nil
	}
	c.socket.records = new(records)
	secure := tls.Client(c.socket, t.TLS)
	c.socket.expect(time.Now().Add(t.HandshakeTimeout))
	if err := secure.HandshakeContext(ctx); err != nil {
		c.socket.sever()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := secure.ConnectionState()
	c.stream, c.state = secure, &state
	return c, nil
}

// begin prepares c for a request with this context.
func (c *conn) begin(ctx context.Context) {
	c.buffers = spare.Get().(*buffers)
	c.in.Reset(c)
	c.out.Reset(c.stream)
	c.received = false
	c.budget = c.transport.HeaderBytes
	c.socket.begin(ctx, c.transport.HeaderTimeout)
}

// headerRead lifts what is for the header only. What comes may be slow, and nobody may be
// reading it when the context ends.
func (c *conn) headerRead() {
	c.budget = math.MaxInt64
	c.socket.watch()
	c.socket.expect(time.Time{})
}

// Read reads what the server says, as far as the budget goes.
func (c *conn) Read(p []byte) (int, error) {
	if c.budget <= 0 {
		return 0, fmt.Errorf("the header of the answer is longer than %d bytes", c.transport.HeaderBytes)
	}
	n, err := c.stream.Read(p[:min(int64(len(p)), c.budget)])
	c.budget -= int64(n)
	c.received = c.received || n > 0
	return n, err
}

// timeoutStatus begins what some servers say before they close an idle connection.
const timeoutStatus = "HTTP/1.1 408"

// look reports whether the server has been silent since its last answer and keeps the connection
// open, and whether it has sent an answer that nobody asked for. That answer would be taken for
// the answer to the next request, which may be another caller's. Records of TLS other than
// application data also end the silence, because what follows them is not known.
func (c *conn) look() (silent, unasked bool) {
	c.socket.looking = true
	n, err := c.stream.Read(c.unasked[:])
	c.socket.looking = false
	silent = n == 0 && errors.Is(err, quiet{}) && !c.socket.noisy && !c.socket.isTorn()
	return silent, n > 0 && string(c.unasked[:n]) != timeoutStatus
}

// rest is called when the answer has been read. It keeps c for another request if the server
// keeps to the protocol and nothing is left over: what has been received beyond the answer is an
// answer that nobody asked for.
func (c *conn) rest(reusable bool) {
	leftOver := c.in.Buffered() > 0
	if leftOver {
		c.transport.distrust()
	}
	reusable = c.socket.unwatch() && reusable && !leftOver
	c.release()
	if !reusable || !c.transport.pool.put(c, c.transport) {
		_ = c.stream.Close()
	}
}

// discard ends c, of which it is not known what comes next.
func (c *conn) discard() {
	c.socket.sever()
	c.socket.unwatch()
	c.release()
}

// release gives the buffers back. Nobody must read or write any more.
func (c *conn) release() {
	c.in.Reset(nil)
	c.out.Reset(nil)
	spare.Put(c.buffers)
	c.buffers = nil
}

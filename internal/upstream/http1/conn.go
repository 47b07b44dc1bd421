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

// A conn is a connection to the server. It belongs to one request, to the body of its response, or to
// the pool.
type conn struct {
	transport *Transport
	socket    *socket
	stream    net.Conn // the socket, or the TLS connection on the socket
	state     *tls.ConnectionState
	*buffers        // nil while the connection is idle
	budget    int64 // number of bytes that Read may still return
	received  bool  // true once part of a response has arrived
	idleSince time.Time
	unasked   [len(timeoutStatus)]byte // the first bytes that arrived while the connection was idle
}

// buffers are lent to a connection while the connection serves a request.
type buffers struct {
	in  *bufio.Reader
	out *bufio.Writer
}

// The buffers have the same sizes as in http.Transport, 4 KiB each.
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

// begin prepares c for a request with the context ctx.
func (c *conn) begin(ctx context.Context) {
	c.buffers = spare.Get().(*buffers)
	c.in.Reset(c)
	c.out.Reset(c.stream)
	c.received = false
	c.budget = c.transport.HeaderBytes
	c.socket.begin(ctx, c.transport.HeaderTimeout)
}

// headerRead removes the limits that apply only to the header. The body may take long, so from now on
// the end of the request's context closes the connection, which ends a running read.
func (c *conn) headerRead() {
	c.budget = math.MaxInt64
	c.socket.watch()
	c.socket.expect(time.Time{})
}

// Read reads from the server, but not more bytes than the budget allows.
func (c *conn) Read(p []byte) (int, error) {
	if c.budget <= 0 {
		return 0, fmt.Errorf("the header of the answer is longer than %d bytes", c.transport.HeaderBytes)
	}
	n, err := c.stream.Read(p[:min(int64(len(p)), c.budget)])
	c.budget -= int64(n)
	c.received = c.received || n > 0
	return n, err
}

// timeoutStatus is the start of the response that some servers send before they close an idle
// connection.
const timeoutStatus = "HTTP/1.1 408"

// look checks an idle connection. silent reports that the server keeps the connection open and has sent
// nothing since its last response. unasked reports that the server has sent a response without a
// request. The client of the next request, which may be another client, would get that response. If a
// TLS record other than application data has arrived, silent is false, because the data after such a
// record is not known.
func (c *conn) look() (silent, unasked bool) {
	c.socket.looking = true
	n, err := c.stream.Read(c.unasked[:])
	c.socket.looking = false
	silent = n == 0 && errors.Is(err, quiet{}) && !c.socket.noisy && !c.socket.isTorn()
	return silent, n > 0 && string(c.unasked[:n]) != timeoutStatus
}

// rest is called when the response has been read. It keeps c for another request if the response allows
// reuse and no bytes follow the response: such bytes are a response without a request.
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

// discard closes c. It is called when the next bytes on c may belong to any response.
func (c *conn) discard() {
	c.socket.sever()
	c.socket.unwatch()
	c.release()
}

// release returns the buffers to the pool. After the call, no goroutine may read from c or write to c.
func (c *conn) release() {
	c.in.Reset(nil)
	c.out.Reset(nil)
	spare.Put(c.buffers)
	c.buffers = nil
}

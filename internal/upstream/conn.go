package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/tallygate/tallygate/internal/http1"
)

// A conn is a connection to the server. It belongs to one request, to the body of its response, or to
// the pool.
type conn struct {
	client         *Client
	socket         *socket
	stream         net.Conn // the socket, or the TLS connection on the socket
	*http1.Buffers          // nil while the connection is idle
	budget         int64    // number of bytes that Read may still return
	received       bool     // true once part of a response has arrived
	idleSince      time.Time
	unasked        [len(timeoutStatus)]byte // the first bytes that arrived while the connection was idle
}

// headBytes bounds the head of a response together with the informational responses before it.
const headBytes = 64 << 10

// connect opens a connection.
func (t *Client) connect(ctx context.Context) (*conn, error) {
	plain, err := t.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{client: t, socket: newSocket(plain)}
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
	c.stream = secure
	return c, nil
}

// begin prepares c for a request with the context ctx.
func (c *conn) begin(ctx context.Context) {
	c.Buffers = http1.NewBuffers(c, c.stream)
	c.received = false
	c.budget = headBytes
	c.socket.begin(ctx, c.client.HeaderTimeout)
}

// roundTrip sends r with body and returns the response.
func (c *conn) roundTrip(ctx context.Context, r *Request, body []byte) (*Response, error) {
	c.begin(ctx)
	r.writeHead(c.Out, int64(len(body)))
	_, _ = c.Out.Write(body)
	unsent := c.Out.Flush()
	if unsent != nil && c.socket.sent == 0 {
		return nil, c.fail(ctx, unsent)
	}
	// A server that responds before it has read the whole body may leave the rest unread (RFC 9112
	// section 9.5).
	head, regular, err := c.readHead(r)
	if err != nil {
		return nil, c.fail(ctx, cmp.Or(unsent, err))
	}
	reusable := regular && !r.Close && unsent == nil && (len(body) == 0 || tookBody(head.Status))
	return c.respond(ctx, r, &head, reusable), nil
}

// fail closes c after a request with the context ctx has failed with err.
func (c *conn) fail(ctx context.Context, err error) error {
	c.discard()
	return orCause(ctx, err)
}

// wasStale reports whether r must be sent again on a new connection after it failed with err on the
// reused connection c.
func (c *conn) wasStale(r *Request, err error) bool {
	var timeout net.Error
	if c.received || errors.As(err, &timeout) && timeout.Timeout() {
		return false
	}
	return c.socket.sent == 0 || isSafe(r.Method)
}

// headRead removes the limits that apply only to the header. The body may take long, so from now on
// the end of the request's context closes the connection, which ends a running read.
func (c *conn) headRead() {
	c.budget = math.MaxInt64
	c.socket.watch()
	c.socket.expect(time.Time{})
}

// errHead is the error if the head of a response exceeds headBytes, together with the informational responses
// before it.
var errHead = fmt.Errorf("the header of the response is longer than %d bytes", headBytes)

// Read reads from the server, but not more bytes than the budget allows.
func (c *conn) Read(p []byte) (int, error) {
	if c.budget <= 0 {
		return 0, errHead
	}
	n, err := c.stream.Read(p[:min(int64(len(p)), c.budget)])
	c.budget -= int64(n)
	c.received = c.received || n > 0
	return n, err
}

// timeoutStatus is the start of the response that some servers send before they close an idle
// connection.
const timeoutStatus = "HTTP/1.1 408"

// look checks an idle connection without waiting. silent is true if the connection is open and no byte has
// arrived since the last response. unasked is true if the server has sent a response without a request: the
// next request, possibly of another client, would get this response. If only a TLS record without application
// data has arrived, both are false, because application data may follow the record.
func (c *conn) look() (silent, unasked bool) {
	c.socket.looking = true
	n, err := c.stream.Read(c.unasked[:])
	c.socket.looking = false
	silent = n == 0 && errors.Is(err, quiet{}) && !c.socket.noisy && !c.socket.isTorn()
	if !silent {
		c.socket.sever() // so that Close waits for no alert
	}
	return silent, n > 0 && string(c.unasked[:n]) != timeoutStatus
}

// rest is called when the response has been read. It keeps c for another request if the response allows
// reuse and no bytes follow the response: such bytes are a response without a request.
func (c *conn) rest(reusable bool) {
	leftOver := c.In.Buffered() > 0
	if leftOver {
		c.client.distrust()
	}
	reusable = c.socket.unwatch() && reusable && !leftOver
	c.release()
	if !reusable || !c.client.pool.put(c, c.client) {
		_ = c.stream.Close()
	}
}

// discard closes c. It must be called when it is unknown to which response the next bytes on c belong.
func (c *conn) discard() {
	c.socket.sever()
	c.socket.unwatch()
	c.release()
}

// release returns the buffers to the pool. After the call, no goroutine may read from c or write to c.
func (c *conn) release() {
	c.Buffers.Release()
	c.Buffers = nil
}

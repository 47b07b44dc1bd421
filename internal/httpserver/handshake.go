package httpserver

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"time"
)

// handshake does the TLS handshake of a new connection, and then serves the connection.
func (c *conn) handshake() {
	defer c.rescueHandshake()
	s := c.server
	bounded := &handshakeConn{Conn: c.raw, left: maxHandshakeBytes}
	secure := tls.Server(bounded, s.TLS.Config())
	bounded.handshake.Began = time.Now()
	err := c.within(s.Limits.HandshakeTimeout, secure.Handshake)
	if err != nil {
		s.HandshakeFailed(c.raw.RemoteAddr(), err)
		rejectPlaintextHTTP(err)
		c.sever()
		return
	}
	bounded.handshakeDone()
	bounded.handshake.Ended = time.Now()
	c.net = secure
	c.leaf.Store(leafOf(secure))
	switch secure.ConnectionState().NegotiatedProtocol {
	case "", "http/1.1":
		bounded.write = &c.write
		// The handshake has enlarged the stack of this goroutine; a new goroutine has a small stack.
		go c.wait(time.Now().Add(s.Limits.HeaderTimeout))
	case "h2":
		s.serveHTTP2(c, secure)
	default: // a connection for an ACME challenge, on which no HTTP follows
		c.close()
	}
}

// within runs operation, which ends when timeout is over or the server closes.
func (c *conn) within(timeout time.Duration, operation func() error) error {
	until := time.Now().Add(timeout)
	_ = c.read.at(until)
	c.write.now(until)
	c.read.begin(0)
	defer c.read.end()
	if c.server.closing() {
		return net.ErrClosed
	}
	return operation()
}

// rescueHandshake closes a connection whose handshake panics. As in net/http, other connections are not
// affected.
func (c *conn) rescueHandshake() {
	if v := recover(); v != nil {
		c.sever()
		c.server.HandshakeFailed(c.raw.RemoteAddr(), NewPanicError(v))
	}
}

// A PanicError is a panic in our code or in crypto/tls that ended a connection.
type PanicError struct {
	error
	Stack string
}

// NewPanicError returns an error for the recovered value v, with the current stack. The text of v may
// quote data of the peer, so the error keeps the text only if v is a runtime error.
func NewPanicError(v any) *PanicError {
	cause := errors.New("not a runtime error")
	if fault, ok := v.(runtime.Error); ok {
		cause = fault
	}
	return &PanicError{cause, string(debug.Stack())}
}

// rejectPlaintextHTTP answers a client that speaks HTTP without TLS, as net/http does. Such a
// client cannot read a TLS alert.
func rejectPlaintextHTTP(err error) {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return
	}
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
}

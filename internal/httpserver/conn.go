package httpserver

import (
	"crypto/x509"
	"net"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"
)

// A conn is an accepted connection, from the handshake to its end.
type conn struct {
	server      *Server
	raw         net.Conn // the connection below TLS
	net         net.Conn // the connection with TLS, or raw
	read, write deadline
	first       [1]byte                          // the first byte after an idle time
	idle        atomic.Bool                      // no request has begun, so the server may end the connection
	used        atomic.Bool                      // a request has begun on the connection at least once
	last        atomic.Bool                      // no further request may begin, see endIdle
	leaf        atomic.Pointer[x509.Certificate] // the client's certificate, from the handshake; nil without a certificate
}

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{server: s, raw: raw, net: raw}
	c.read.set, c.write.set = raw.SetReadDeadline, raw.SetWriteDeadline
	c.idle.Store(true)
	return c
}

// ends reports whether c must end instead of waiting for a request.
func (c *conn) ends() bool { return c.server.closing() || c.last.Load() }

// endIdle lets no further request begin on c, and ends c if no request has begun.
func (c *conn) endIdle() {
	c.last.Store(true)
	if c.idle.Load() {
		_ = c.read.at(past)
	}
}

// receive reads from the client within the read deadline.
func (c *conn) receive(p []byte) (int, error) {
	c.read.begin(0)
	defer c.read.end()
	return c.net.Read(p)
}

// wait holds c as idle until the deadline until, and serves c when a byte arrives. It runs on a
// goroutine of its own, whose stack is small, and without buffers, because most connections are idle
// for most of their time.
func (c *conn) wait(until time.Time) {
	defer c.rescue()
	c.idle.Store(true)
	_ = c.read.at(until)
	c.write.now(until) // TLS may write while it reads
	if c.ends() {      // checked after idle is set: closeIdle and endIdle set what ends reads before they read idle, so at least one of the two goroutines sees the other's write
		c.close()
		return
	}
	n, _ := c.receive(c.first[:])
	c.idle.Store(false)
	if n == 0 {
		c.close()
		return
	}
	c.write.now(time.Time{})
	s := newSession(c)
	end := s.run()
	s.release()
	switch end {
	case idle:
		if c.server.ConnectionIdle != nil {
			c.server.ConnectionIdle()
		}
		go c.wait(s.idleSince.Add(c.server.Limits.IdleTimeout))
	case over:
		c.close()
	case broken:
		c.sever()
	case unread:
		c.linger()
	case hijacked:
		c.server.remove(c)
	}
}

// close closes the connection. Over TLS, the client gets a close_notify.
func (c *conn) close() {
	c.server.remove(c)
	_ = c.net.Close()
}

// sever closes the connection without a close_notify. It must be used after a failed write: crypto/tls has counted
// the record that was not sent whole, so the client would report the close_notify as tampered with.
func (c *conn) sever() {
	c.server.remove(c)
	_ = c.raw.Close()
}

const (
	// lingerTime and lingerBytes bound how long, and how much, linger reads. If the server closed a
	// connection on which bytes still arrive, TCP would send a reset, and the client could lose the response.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// linger closes the direction to the client, reads and discards the bytes that the client still sends, and
// then closes the connection.
func (c *conn) linger() {
	defer c.close()
	if half, ok := c.net.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.read.at(time.Now().Add(lingerTime))
	var scrap [1 << 10]byte
	for left := lingerBytes; left > 0; {
		n, err := c.receive(scrap[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// reset makes the close of the connection a reset, so that the client can tell that a response without a
// length is truncated.
func (c *conn) reset() {
	below := c.raw
	if proxied, ok := below.(*proxyproto.Conn); ok {
		below = proxied.Raw()
	}
	if limited, ok := below.(*limitedConn); ok {
		if tcp, ok := limited.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	_ = c.raw.Close()
}

// rescue closes a connection whose goroutine panics. As in net/http, other connections are not affected.
func (c *conn) rescue() {
	if v := recover(); v != nil {
		c.server.Panicked(c.raw.RemoteAddr(), NewPanicError(v))
		c.sever()
	}
}

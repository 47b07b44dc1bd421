package httpserver

import (
	"errors"
	"net"
)

// maxHandshakeBytes bounds what a client may send before its handshake is complete: a chain of 64
// KiB (see mtls.ServerConfig), and as much as half of that again for its ClientHello, which
// may hold a ticket, and for the borders of records. crypto/tls itself takes 256 KiB of
// certificates from anybody, and keeps them until the handshake times out.
const maxHandshakeBytes = 96 << 10

var ErrHandshakeTooLong = errors.New("the client sent more than 96 KiB before its handshake was complete")

// A handshakeConn is the connection below TLS. It ends the handshake of a client that sends too
// much.
type handshakeConn struct {
	net.Conn
	left int // bytes that may still be read; landed: no bound any more
}

const noLimit = -1

func (f *handshakeConn) Read(p []byte) (int, error) {
	switch f.left {
	case noLimit:
		return f.Conn.Read(p)
	case 0:
		return 0, ErrHandshakeTooLong
	}
	n, err := f.Conn.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

// handshakeDone ends the bound. Nobody may read at that time.
func (f *handshakeConn) handshakeDone() { f.left = noLimit }

// NetConn returns the connection beneath, as [tls.Conn.NetConn] does.
func (f *handshakeConn) NetConn() net.Conn { return f.Conn }

package httpserver

import (
	"errors"
	"net"
)

// maxHandshakeBytes bounds the bytes that a client may send before its handshake completes: 64 KiB for
// the certificate chain (see mtls.ServerConfig), and 32 KiB for record headers and the ClientHello,
// which may hold a ticket. crypto/tls itself accepts 256 KiB of certificates, and keeps them until the
// handshake times out.
const maxHandshakeBytes = 96 << 10

// ErrHandshakeTooLong is the error of a handshake with more than maxHandshakeBytes from the client.
var ErrHandshakeTooLong = errors.New("the client sent more than 96 KiB before its handshake was complete")

// A handshakeConn is the connection below TLS. It ends the handshake of a client that sends more than
// maxHandshakeBytes.
type handshakeConn struct {
	net.Conn
	left int // number of bytes that may still be read, or noLimit
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

// handshakeDone removes the limit. It must not be called during a Read.
func (f *handshakeConn) handshakeDone() { f.left = noLimit }

// NetConn returns the underlying connection, as [tls.Conn.NetConn] does.
func (f *handshakeConn) NetConn() net.Conn { return f.Conn }

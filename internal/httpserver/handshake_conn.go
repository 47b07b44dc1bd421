package httpserver

import (
	"errors"
	"net"

	"github.com/tallygate/tallygate/mtls"
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
	handshake mtls.Handshake
	left      int       // number of bytes that may still be read, or noLimit
	write     *deadline // the deadline of the server's writes; nil: the server sets none
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

// Write writes to Conn. crypto/tls also writes while it reads: the response to a KeyUpdate (RFC 8446 section
// 4.6.3). The deadline of the last response must not make such a write fail, because crypto/tls writes
// nothing more after a write that has failed.
func (f *handshakeConn) Write(p []byte) (int, error) {
	if f.write != nil {
		f.write.renew(refusalTimeout)
	}
	return f.Conn.Write(p)
}

// handshakeDone removes the limit. It must not be called during a Read.
func (f *handshakeConn) handshakeDone() { f.left = noLimit }

// TLSHandshake returns the record of the handshake, for [mtls.ConnContext].
func (f *handshakeConn) TLSHandshake() *mtls.Handshake { return &f.handshake }

// NetConn returns the underlying connection, as [tls.Conn.NetConn] does.
func (f *handshakeConn) NetConn() net.Conn { return f.Conn }

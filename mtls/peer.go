package mtls

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"
)

// peerKey is the context key of the peer of a connection.
type peerKey struct{}

// A peer has the facts about a connection that its requests do not carry.
type peer struct {
	address   netip.Addr // as [SocketPeer] returned it
	handshake *Handshake // nil if the connection did not record its TLS handshake
}

// ConnContext stores the address of [SocketPeer] in ctx, for [http.Server.ConnContext]. A request's
// RemoteAddr may come from a PROXY protocol header, and a front proxy must not be trusted because of
// an address in such a header. ConnContext also stores the [Handshake] of a connection that has one.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peer{SocketPeer(c), handshakeOf(c)})
}

// A Handshake records when the TLS handshake of a connection began and ended.
type Handshake struct {
	Began, Ended time.Time
	taken        atomic.Bool
}

// handshakeOf returns the Handshake of c or of a connection that c wraps. It returns nil if none of them has a
// method TLSHandshake.
func handshakeOf(c net.Conn) *Handshake {
	for {
		if recorded, ok := c.(interface{ TLSHandshake() *Handshake }); ok {
			return recorded.TLSHandshake()
		}
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = outer.NetConn()
	}
}

// TakeHandshake returns the record of the TLS handshake of the connection of r. It returns nil if there is no
// record. It also returns nil if an earlier call has returned the record, so only one request of a connection
// gets it.
func TakeHandshake(r *http.Request) *Handshake {
	p, _ := r.Context().Value(peerKey{}).(peer)
	if p.handshake == nil || p.handshake.taken.Swap(true) {
		return nil
	}
	return p.handshake
}

// SocketPeer returns the IP address at the other end of c's socket, without regard to a PROXY
// protocol header. It unwraps TLS and other connections with a NetConn method. The result is the
// zero Addr for a connection that is not TCP. SocketPeer never blocks.
func SocketPeer(c net.Conn) netip.Addr {
	for {
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = outer.NetConn()
	}
	if outer, ok := c.(*proxyproto.Conn); ok {
		c = outer.Raw() // RemoteAddr of proxyproto.Conn waits for the PROXY protocol header and returns the address in it
	}
	address, _ := c.RemoteAddr().(*net.TCPAddr)
	return address.AddrPort().Addr().Unmap().WithZone("") // for a nil address the result is the zero Addr
}

// socketPeerOf returns the address that [ConnContext] stored for the connection of r, or the zero
// Addr.
func socketPeerOf(r *http.Request) netip.Addr {
	p, _ := r.Context().Value(peerKey{}).(peer)
	return p.address
}

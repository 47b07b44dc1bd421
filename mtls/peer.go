package mtls

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// peerKey is the context key of the address that [SocketPeer] returned.
type peerKey struct{}

// ConnContext stores the address of [SocketPeer] in ctx, for [http.Server.ConnContext]. A request's
// RemoteAddr may come from a PROXY protocol header, and a front proxy must not be trusted because of
// an address in such a header.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, SocketPeer(c))
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
	address, _ := r.Context().Value(peerKey{}).(netip.Addr)
	return address
}

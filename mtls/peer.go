package mtls

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// peerKey is the key of a connection's context under which the address of its socket's
// other end is.
type peerKey struct{}

// ConnContext notes in ctx the address at the other end of c's socket, for
// [http.Server.ConnContext]. A request's RemoteAddr is another where PROXY protocol named
// one, and by such a one nobody is trusted. It never blocks.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for { // *tls.Conn, or what is around one, or below it
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = outer.NetConn()
	}
	if outer, ok := c.(*proxyproto.Conn); ok {
		c = outer.Raw() // whose RemoteAddr would wait for the header, and then tell what it says
	}
	return context.WithValue(ctx, peerKey{}, socketPeer(c))
}

// socketPeer returns the address at the other end of c, a connection without a header of
// the PROXY protocol around it; the zero one for what is no TCP connection.
func socketPeer(c net.Conn) netip.Addr {
	address, _ := c.RemoteAddr().(*net.TCPAddr)
	return address.AddrPort().Addr().Unmap().WithZone("") // of nil, the zero one
}

// peerOf returns the address at the other end of the socket that r came through, the zero
// one if it is not known.
func peerOf(r *http.Request) netip.Addr {
	address, _ := r.Context().Value(peerKey{}).(netip.Addr)
	return address
}

package httpserver

import (
	"errors"
	"net"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/mtls"
)

// A proxyProtocolListener reads PROXY protocol headers of trusted load balancers.
type proxyProtocolListener struct {
	net.Listener
	settings func() *config.ProxyProtocol
	timeout  time.Duration
}

// newProxyProtocolListener returns a listener that expects PROXY protocol on connections from trusted
// addresses. Such a connection must begin with a header of version 2 within timeout, and its RemoteAddr
// is the address in the header. On other connections the listener does not parse a header, so the bytes
// of a header make the TLS handshake fail. settings is called for each connection; if it returns nil,
// no address is trusted. Accept does not wait for a header, but the first Read does.
func newProxyProtocolListener(l net.Listener, settings func() *config.ProxyProtocol, timeout time.Duration) net.Listener {
	return &proxyProtocolListener{l, settings, timeout}
}

func (l *proxyProtocolListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	settings := l.settings()
	if settings == nil || !config.Includes(settings.Trusted, mtls.SocketPeer(c)) {
		return c, nil
	}
	return proxyproto.NewConn(c,
		proxyproto.WithPolicy(proxyproto.REQUIRE),
		proxyproto.ValidateHeader(checkHeader),
		proxyproto.SetReadHeaderTimeout(l.timeout),
	), nil
}

var (
	errVersion   = errors.New("PROXY protocol: expected version 2")
	errTransport = errors.New("PROXY protocol: expected TCP over IPv4 or IPv6")
)

// checkHeader refuses headers of version 1, the text format, and headers of other transports than
// TCP. The command LOCAL is allowed: load balancers send it with their own health checks.
func checkHeader(h *proxyproto.Header) error {
	switch {
	case h.Version != 2:
		return errVersion
	case h.Command.IsLocal(), h.TransportProtocol == proxyproto.TCPv4, h.TransportProtocol == proxyproto.TCPv6:
		return nil
	default:
		return errTransport
	}
}

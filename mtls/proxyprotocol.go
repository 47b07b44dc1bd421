package mtls

import (
	"errors"
	"net"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/tallygate/tallygate/config"
)

// A relayed listener takes PROXY protocol from those who may speak it.
type relayed struct {
	net.Listener
	settings func() *config.ProxyProtocol
	timeout  time.Duration
}

// Relayed returns a listener whose connections, when they come from an address that what
// settings returns at their time trusts, must begin with a header of version 2 of the
// PROXY protocol within timeout, and have the RemoteAddr that it names. Others are left
// alone: where there is TLS behind it, a header of theirs is a broken handshake. settings
// may return nil: nobody is trusted. Accept waits for no header.
func Relayed(l net.Listener, settings func() *config.ProxyProtocol, timeout time.Duration) net.Listener {
	return &relayed{l, settings, timeout}
}

func (l *relayed) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	settings := l.settings()
	if settings == nil || !config.Includes(settings.Trusted, socketPeer(c)) {
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

// checkHeader refuses version 1, which is text, and what is no TCP connection. A header
// with the command LOCAL is of the load balancer itself, which checks our health.
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

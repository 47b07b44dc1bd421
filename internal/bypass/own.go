package bypass

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Own returns the addresses by which other machines may reach this machine or pod. Loopback is not among
// them, and neither are link-local addresses, which a port on all addresses has beside others.
func Own() []netip.Addr {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var own []netip.Addr
	for _, i := range interfaces {
		prefix, err := netip.ParsePrefix(i.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() {
			own = append(own, prefix.Addr())
		}
	}
	return own
}

// LoopbackPort returns the port of an http or https upstream on this machine's loopback, and false for
// any other upstream.
func LoopbackPort(u *url.URL) (uint16, bool) {
	if u.Scheme != "http" && u.Scheme != "https" {
		return 0, false
	}
	address, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() != "localhost" && (err != nil || !address.IsLoopback()) {
		return 0, false
	}
	if u.Port() == "" {
		return map[string]uint16{"http": 80, "https": 443}[u.Scheme], true
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return uint16(port), err == nil
}

// acceptTimeout bounds a connection to this machine itself, which takes microseconds.
const acceptTimeout = time.Second

// Accepting returns the addresses at which the port accepts a connection, in their order. It sends nothing
// over the connections.
func Accepting(ctx context.Context, addresses []netip.Addr, port uint16) []netip.AddrPort {
	accepts := make([]bool, len(addresses))
	var dialing sync.WaitGroup
	for i, address := range addresses {
		dialing.Go(func() {
			dialer := net.Dialer{Timeout: acceptTimeout}
			conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address, port).String())
			if err == nil {
				accepts[i] = true
				_ = conn.Close()
			}
		})
	}
	dialing.Wait()
	var accepting []netip.AddrPort
	for i, address := range addresses {
		if accepts[i] {
			accepting = append(accepting, netip.AddrPortFrom(address, port))
		}
	}
	return accepting
}

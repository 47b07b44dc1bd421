package bypass

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

// Own returns the addresses by which other machines may reach this machine or pod. Own leaves out
// loopback addresses. It also leaves out link-local addresses: a port that is open at a link-local
// address is open at the other addresses too.
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
			accepts[i] = accepting(ctx, netip.AddrPortFrom(address, port).String(), keptOpen)
		})
	}
	dialing.Wait()
	var found []netip.AddrPort
	for i, address := range addresses {
		if accepts[i] {
			found = append(found, netip.AddrPortFrom(address, port))
		}
	}
	return found
}

// keptOpen is how long a server must keep a silent connection. A proxy of a service mesh accepts connections
// to all ports, and closes a connection when it finds nothing behind it.
const keptOpen = 200 * time.Millisecond

// accepting reports whether a server at endpoint accepts a connection and keeps it open for keptOpen.
func accepting(ctx context.Context, endpoint string, kept time.Duration) bool {
	dialer := net.Dialer{Timeout: acceptTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(kept))
	_, err = conn.Read(make([]byte, 1))
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

package httpserver

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/internal/logsample"
)

// A ConnLimiter lets connections in as long as there is room: on its listener, for their address,
// and in memory. It closes the others at once. Left waiting, they would keep those of
// everybody else waiting too.
type ConnLimiter struct {
	net.Listener
	Max, MaxPerAddress int
	LowMemory          func() bool // whether memory is short; nil: it does not matter
	Refused            *prometheus.CounterVec
	Log                *slog.Logger

	mu   sync.Mutex
	open int
	each map[netip.Prefix]int // open, by address; never 0
	told logsample.Sampler    // refused
}

// The bounds that keep a connection out, as the metric and the log name them.
const (
	ByTotal   = "connections"
	ByAddress = "connections_per_address"
	ByMemory  = "memory"
)

// Accept returns the next connection that is let in.
func (d *ConnLimiter) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := clientPrefix(conn.RemoteAddr())
		bound := d.enter(from)
		if bound == "" {
			return &limitedConn{Conn: conn, leave: sync.OnceFunc(func() { d.leave(from) })}, nil
		}
		d.reject(conn, bound)
	}
}

// enter makes room for a connection, or says which bound there is.
func (d *ConnLimiter) enter(from netip.Prefix) (bound string) {
	short := d.LowMemory != nil && d.LowMemory()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.each[from] >= d.MaxPerAddress:
		return ByAddress
	case d.open >= d.Max:
		return ByTotal
	case short:
		return ByMemory
	}
	if d.each == nil {
		d.each = make(map[netip.Prefix]int)
	}
	d.open++
	d.each[from]++
	return ""
}

func (d *ConnLimiter) leave(from netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.each[from]--; d.each[from] == 0 {
		delete(d.each, from)
	}
}

// Count returns how many connections are open.
func (d *ConnLimiter) Count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// reject logs and counts a refused connection and closes it by a reset, after which the
// kernel keeps no state for it. The reset comes last: whoever sees it finds the count.
func (d *ConnLimiter) reject(conn net.Conn, bound string) {
	if n := d.suppressedCount(time.Now()); n > 0 {
		d.Log.Warn("connections refused", "limit", bound, "remote", conn.RemoteAddr().String(), "count", n)
	}
	d.Refused.WithLabelValues(bound).Inc()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// suppressedCount counts a refusal and returns how many the log has to tell of now.
func (d *ConnLimiter) suppressedCount(now time.Time) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told.Add(now)
}

// clientPrefix returns the addresses that count as one with a. Of IPv6 a subscriber has a /64
// at least.
func clientPrefix(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, _ := ip.Prefix(bits) // errs only for more bits than there are
	return prefix
}

// A limitedConn is a connection that was let in.
type limitedConn struct {
	net.Conn
	leave func()
}

// CloseWrite tells a client without TLS that nothing more is sent, while it may be sending.
func (g *limitedConn) CloseWrite() error {
	if tcp, ok := g.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// Close makes room for another.
func (g *limitedConn) Close() error {
	defer g.leave()
	return g.Conn.Close()
}

package main

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A door lets connections in as long as there is room: on its listener, for their address,
// and in memory. It closes the others at once. Left waiting, they would keep those of
// everybody else waiting too.
type door struct {
	net.Listener
	most, mostEach int
	crowded        func() bool // whether memory is short; nil: it does not matter
	refused        *prometheus.CounterVec
	log            *slog.Logger

	mu   sync.Mutex
	open int
	each map[netip.Prefix]int // open, by address; never 0
	told digest               // refused
}

// The bounds that keep a connection out, as the metric and the log name them.
const (
	byTotal   = "connections"
	byAddress = "connections_per_address"
	byMemory  = "memory"
)

// Accept returns the next connection that is let in.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := origins(conn.RemoteAddr())
		bound := d.enter(from)
		if bound == "" {
			return &guest{Conn: conn, leave: sync.OnceFunc(func() { d.leave(from) })}, nil
		}
		d.turnAway(conn, bound)
	}
}

// enter makes room for a connection, or says which bound there is.
func (d *door) enter(from netip.Prefix) (bound string) {
	short := d.crowded != nil && d.crowded()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.each[from] >= d.mostEach:
		return byAddress
	case d.open >= d.most:
		return byTotal
	case short:
		return byMemory
	}
	d.open++
	d.each[from]++
	return ""
}

func (d *door) leave(from netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.each[from]--; d.each[from] == 0 {
		delete(d.each, from)
	}
}

// count returns how many connections are open.
func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// turnAway logs and counts a refused connection and closes it by a reset, after which the
// kernel keeps no state for it. The reset comes last: whoever sees it finds the count.
func (d *door) turnAway(conn net.Conn, bound string) {
	if n := d.toTell(time.Now()); n > 0 {
		d.log.Warn("connections refused", "limit", bound, "remote", conn.RemoteAddr().String(), "count", n)
	}
	d.refused.WithLabelValues(bound).Inc()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// toTell counts a refusal and returns how many the log has to tell of now.
func (d *door) toTell(now time.Time) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told.due(now)
}

// origins returns the addresses that count as one with a. Of IPv6 a subscriber has a /64
// at least.
func origins(a net.Addr) netip.Prefix {
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

// A guest is a connection that was let in.
type guest struct {
	net.Conn
	leave func()
}

// CloseWrite tells a client without TLS that nothing more is sent, while it may be sending.
func (g *guest) CloseWrite() error {
	if tcp, ok := g.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// Close makes room for another.
func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}

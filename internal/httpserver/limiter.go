package httpserver

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/logsample"
)

// A ConnLimiter is a listener that bounds its connections: in total, for each client address, and by
// memory. It closes a connection beyond a limit at once, because other clients would have to wait if
// the connection stayed in the queue of the listener.
type ConnLimiter struct {
	net.Listener
	Max, MaxPerAddress int
	LowMemory          func() bool // reports whether memory is short; nil: memory is never short
	Refused            *prometheus.CounterVec
	Log                *slog.Logger

	mu       sync.Mutex
	open     int
	each     map[netip.Prefix]int // the number of open connections for each client prefix
	refusals logsample.Sampler    // samples the log lines about refused connections
	none     chan struct{}        // closed when no connection is open; nil if nothing waits
}

// The names of the limits in the metric and the log.
const (
	ByTotal   = "connections"
	ByAddress = "connections_per_address"
	ByMemory  = "memory"
)

// Accept returns the next connection within the limits.
func (d *ConnLimiter) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, _ := conn.RemoteAddr().(*net.TCPAddr)
		from := config.ClientPrefix(tcp.AddrPort().Addr()) // the zero Prefix for a connection without TCP
		limit := d.acquire(from)
		if limit == "" {
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { d.release(from) })}, nil
		}
		d.reject(conn, limit)
	}
}

// acquire counts a connection and returns "", or returns the name of the limit that the connection
// would exceed.
func (d *ConnLimiter) acquire(from netip.Prefix) (limit string) {
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

func (d *ConnLimiter) release(from netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.each[from]--; d.each[from] == 0 {
		delete(d.each, from)
	}
	if d.open == 0 && d.none != nil {
		close(d.none)
		d.none = nil
	}
}

// Count returns the number of open connections.
func (d *ConnLimiter) Count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// Wait returns nil once no connection is open, or the error of ctx if ctx ends first.
func (d *ConnLimiter) Wait(ctx context.Context) error {
	d.mu.Lock()
	if d.open == 0 {
		d.mu.Unlock()
		return nil
	}
	if d.none == nil {
		d.none = make(chan struct{})
	}
	none := d.none
	d.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reject logs and counts a refused connection, and closes it with a reset, after which the kernel keeps
// no state for the connection. The reset comes last, so that a client that sees the reset finds the new
// count in the metric.
func (d *ConnLimiter) reject(conn net.Conn, limit string) {
	if n := d.suppressedCount(time.Now()); n > 0 {
		d.Log.Warn("connections refused", "limit", limit, "remote", conn.RemoteAddr().String(), "count", n)
	}
	d.Refused.WithLabelValues(limit).Inc()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// suppressedCount counts a refusal and returns how many refusals a log line must report now, or 0.
func (d *ConnLimiter) suppressedCount(now time.Time) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refusals.Add(now)
}

// A limitedConn is a connection that the limiter counts.
type limitedConn struct {
	net.Conn
	release func()
}

// CloseWrite ends the stream to a client without TLS, while the client may still send.
func (g *limitedConn) CloseWrite() error {
	if tcp, ok := g.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// Close releases the connection's slot.
func (g *limitedConn) Close() error {
	defer g.release()
	return g.Conn.Close()
}

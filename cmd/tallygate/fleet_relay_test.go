package main

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A tcpRelay forwards TCP connections to the first of its targets that accepts a connection. While it is cut, its
// connections stay open and carry nothing, and new connections are accepted and carry nothing, as with a firewall
// that drops packets.
type tcpRelay struct {
	listener net.Listener
	targets  []string
	mu       sync.Mutex
	changed  sync.Cond // cut, or closed
	isCut    bool
	closed   bool
	open     map[net.Conn]bool
	group    sync.WaitGroup
}

func newTCPRelay(t *testing.T, targets ...string) *tcpRelay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &tcpRelay{listener: l, targets: targets, open: map[net.Conn]bool{}}
	r.changed.L = &r.mu
	r.group.Go(r.serve)
	t.Cleanup(r.close)
	return r
}

func (r *tcpRelay) address() string { return r.listener.Addr().String() }

func (r *tcpRelay) serve() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		if r.keep(conn) {
			r.group.Go(func() { r.forward(conn) })
		}
	}
}

// keep remembers a connection, to close it with the relay. It reports false if the relay is closed.
func (r *tcpRelay) keep(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = conn.Close()
		return false
	}
	r.open[conn] = true
	return true
}

func (r *tcpRelay) forget(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, conn)
	_ = conn.Close()
}

func (r *tcpRelay) forward(conn net.Conn) {
	defer r.forget(conn)
	if !r.pass() {
		return
	}
	for _, address := range r.targets {
		target, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		if !r.keep(target) {
			return
		}
		defer r.forget(target)
		r.group.Go(func() {
			r.pipe(target, conn)
			_ = target.Close()
		})
		r.pipe(conn, target)
		return
	}
}

// pipe copies from one connection to the other.
func (r *tcpRelay) pipe(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !r.pass() {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass returns true as soon as the relay is not cut, and false when it is closed.
func (r *tcpRelay) pass() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.isCut && !r.closed {
		r.changed.Wait()
	}
	return !r.closed
}

// cut stops or resumes the traffic.
func (r *tcpRelay) cut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isCut = cut
	r.changed.Broadcast()
}

// reset closes all connections.
func (r *tcpRelay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		_ = conn.Close()
	}
}

func (r *tcpRelay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for conn := range r.open {
		_ = conn.Close()
	}
	r.changed.Broadcast()
	r.mu.Unlock()
	r.group.Wait()
}

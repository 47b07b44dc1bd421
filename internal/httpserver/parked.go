package httpserver

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/tallygate/tallygate/internal/http1guard"
	"github.com/tallygate/tallygate/internal/httpserver/fastpath"
)

// ParkAfter is how long an idle connection stays in net/http, which holds two buffers of 4 KiB and a
// stack of 8 KiB for the connection. The next request on a parked connection takes about 50 µs longer,
// so connections with frequent requests should stay in net/http. The fast path parks a connection after
// at least half of ParkAfter.
const ParkAfter = 5 * time.Second

// parkedConns holds idle HTTP/1.1 connections outside net/http. It is safe for concurrent use.
type parkedConns struct {
	fast        *fastpath.Server // serves plain requests; nil: net/http serves all requests
	first, idle time.Duration    // how long a connection may be idle; first applies before its first request
	parkAfter   time.Duration    // how long net/http keeps an idle connection
	handOff     func(net.Conn)   // delivers a connection with data to net/http
	refuse      MalformedHandler // answers malformed requests

	mu      sync.Mutex
	waiting map[*tls.Conn]struct{} // nil after the call of close
	leaving int                    // connections with data, until the fast path returns them or net/http accepts them
}

func newParkedConns(plain *fastpath.Server, first, idle time.Duration, refuse MalformedHandler) *parkedConns {
	return &parkedConns{fast: plain, first: first, idle: idle, parkAfter: ParkAfter, refuse: refuse, waiting: make(map[*tls.Conn]struct{})}
}

// add takes over a connection after its handshake.
func (l *parkedConns) add(c *tls.Conn) {
	if l.fast == nil {
		l.handOver(c, nil)
		return
	}
	l.park(c, time.Now().Add(l.first))
}

// park holds c as idle until the deadline until, or without a deadline if until is zero. The caller
// must not use c any more.
func (l *parkedConns) park(c *tls.Conn, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		until = time.Unix(1, 0)
	} else {
		l.waiting[c] = struct{}{}
	}
	_ = c.SetDeadline(until) // the deadline also bounds writes, because TLS may write while it reads
	go l.wait(c)
}

// wait waits for the first byte of a request and then serves c or gives c to net/http. If no byte
// arrives before the deadline, wait closes c.
func (l *parkedConns) wait(c *tls.Conn) {
	var first [1]byte
	n, _ := c.Read(first[:])
	l.mu.Lock()
	delete(l.waiting, c)
	l.leaving += n
	l.mu.Unlock()
	if n == 0 {
		_ = c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	l.serve(c, first[:])
	l.mu.Lock()
	l.leaving -= n
	l.mu.Unlock()
}

// serve serves plain requests on c. read holds bytes that the caller has read from c already.
func (l *parkedConns) serve(c *tls.Conn, read []byte) {
	if l.fast == nil {
		l.handOver(c, read)
		return
	}
	switch outcome, unserved, rests := l.fast.Serve(c, read); outcome {
	case fastpath.Over:
	case fastpath.Idle:
		l.park(c, rests.Add(l.idle))
	case fastpath.Other:
		l.handOver(c, unserved)
	}
}

// handOver gives c to net/http, which reads c through a guard. early holds bytes that the caller has
// read from c already.
func (l *parkedConns) handOver(c *tls.Conn, early []byte) {
	s := &parkableConn{Conn: c, parked: l, early: early}
	s.guard = http1guard.New(readerFunc(s.receive), func(fault error) {
		state := c.ConnectionState()
		l.refuse(c, &state, fault)
	})
	l.handOff(s)
}

// A readerFunc is an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// count returns the number of parked connections, and of connections in leaving.
func (l *parkedConns) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) + l.leaving
}

// close closes all parked connections. A connection that is parked later is closed at once.
func (l *parkedConns) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.waiting {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
	l.waiting = nil
	if l.fast != nil {
		l.fast.Close()
	}
}

// A parkableConn is an HTTP/1.1 connection that net/http serves. If no further request comes within
// parkAfter, reads return a deadline error. net/http then calls Close, and Close parks the connection
// instead of closing it.
type parkableConn struct {
	*tls.Conn
	parked *parkedConns
	guard  *http1guard.Guard

	// Only the goroutine that reads the connection uses early and room.
	early []byte // bytes that were read before net/http got the connection
	room  int    // the size of net/http's buffer when the buffer is empty

	mu    sync.Mutex
	state connState
	until time.Time // the deadline that net/http has set; zero: no deadline
}

// A connState is the state of net/http between two requests. net/http reports the connection as idle,
// sets a deadline, waits for the first bytes, and then sets another deadline.
type connState uint8

const (
	connBusy connState = iota
	connIdle
	connWaiting // net/http waits for the first bytes
	connParking // Close will park the connection
	connParked
)

// changed is called with each state that http.Server.ConnState reports for the connection.
func (s *parkableConn) changed(state http.ConnState) {
	s.guard.Changed(state)
	if state == http.StateIdle {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state = connIdle
	}
}

// SetReadDeadline sets the deadline t. While net/http waits for the first bytes of the next request,
// the deadline is parkAfter if that is earlier.
func (s *parkableConn) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case connIdle:
		s.state, s.until = connWaiting, t
		if soon := time.Now().Add(s.parked.parkAfter); t.IsZero() || soon.Before(t) {
			t = soon
		}
	case connWaiting: // net/http has read the first bytes
		s.state = connBusy
	case connBusy, connParking, connParked:
	}
	return s.Conn.SetReadDeadline(t)
}

// Read reads through the guard.
func (s *parkableConn) Read(p []byte) (int, error) { return s.guard.Read(p) }

// receive reads from the TLS connection. It returns a deadline error if Close is to park the
// connection, or if the deadline that net/http has set has passed.
func (s *parkableConn) receive(p []byte) (int, error) {
	if s.room == 0 {
		s.room = len(p)
	}
	if len(s.early) > 0 {
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	for {
		n, err := s.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !s.keepWaiting(len(p) == s.room && s.guard.Between()) {
			return n, err
		}
	}
}

// keepWaiting reports whether a connection without data stays in net/http after parkAfter. empty says
// that net/http holds no bytes of the next request; the caller knows this from the size of the free
// space in net/http's buffer. If net/http holds bytes, the connection stays, because parking would lose
// them.
func (s *parkableConn) keepWaiting(empty bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != connWaiting || !s.until.IsZero() && !time.Now().Before(s.until) {
		return false
	}
	if empty {
		s.state = connParking
		return false
	}
	_ = s.Conn.SetReadDeadline(s.until)
	return true
}

// Close closes or parks the connection.
func (s *parkableConn) Close() error {
	switch s.leave() {
	case connParking:
		s.parked.park(s.Conn, s.until)
		return nil
	case connParked: // the connection may already belong to another parkableConn
		return nil
	case connBusy, connIdle, connWaiting:
	}
	return s.Conn.Close()
}

// leave returns the state. It also changes the state connParking to connParked.
func (s *parkableConn) leave() connState {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.state
	if was == connParking {
		s.state = connParked
	}
	return was
}

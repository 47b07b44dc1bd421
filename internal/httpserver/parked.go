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

// ParkAfter is how long net/http keeps a connection without a request. For each such connection it
// holds two buffers of 4 KiB and a stack of 8 KiB. The return of a parked connection costs a
// request about 50 µs, so connections with frequent requests stay in net/http. The fast path parks
// after half that time at least.
const ParkAfter = 5 * time.Second

// parkedConns holds idle HTTP/1.1 connections outside net/http. It is safe for concurrent use.
type parkedConns struct {
	fast        *fastpath.Server // serves plain requests; nil: net/http serves all requests
	first, idle time.Duration    // how long a connection may be idle: before its first request, and later
	parkAfter   time.Duration    // how long net/http keeps a connection without a request
	handOff     func(net.Conn)   // delivers a connection with data to net/http
	refuse      MalformedHandler // answers malformed requests

	mu      sync.Mutex
	waiting map[*tls.Conn]struct{} // nil after close
	leaving int                    // connections with data that are not accepted yet
}

func newParkedConns(plain *fastpath.Server, first, idle time.Duration, refuse MalformedHandler) *parkedConns {
	return &parkedConns{fast: plain, first: first, idle: idle, parkAfter: ParkAfter, refuse: refuse, waiting: make(map[*tls.Conn]struct{})}
}

// add takes a new connection.
func (l *parkedConns) add(c *tls.Conn) {
	if l.fast == nil {
		l.handOver(c, nil)
		return
	}
	l.park(c, time.Now().Add(l.first))
}

// park takes c, which nothing else may use, until a deadline. The zero deadline means for ever.
func (l *parkedConns) park(c *tls.Conn, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		until = time.Unix(1, 0)
	} else {
		l.waiting[c] = struct{}{}
	}
	_ = c.SetDeadline(until) // the deadline also bounds writes, because TLS may answer what it reads
	go l.wait(c)
}

// wait reads the first byte and serves c or hands it over. Without a byte until the deadline it
// closes c.
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

// serve serves plain requests on c. read holds bytes that have been read from c already.
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

// handOver gives c to net/http, which reads it through a guard. early holds bytes that have been
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

// count returns the number of parked connections and of connections that are not accepted yet.
func (l *parkedConns) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) + l.leaving
}

// close closes parked connections, and connections that are parked later.
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

// A parkableConn is an HTTP/1.1 connection that net/http serves. If net/http would wait for a
// further request for longer than parkAfter, a deadline error makes it close the connection, and
// Close parks the connection instead.
type parkableConn struct {
	*tls.Conn
	parked *parkedConns
	guard  *http1guard.Guard

	// Only the goroutine that reads the connection uses the next two fields.
	early []byte // bytes that have been read before
	room  int    // the size of net/http's buffer while it is empty

	mu    sync.Mutex
	state connState
	until time.Time // the deadline that net/http has set; zero: none
}

// A connState is the state of net/http between two requests: it reports the connection as idle,
// sets a deadline, waits for the first bytes, and sets another deadline.
type connState uint8

const (
	connBusy connState = iota
	connIdle
	connWaiting // net/http waits for the first bytes
	connParking // Close will park the connection
	connParked
)

// changed gets the connection's states from http.Server.ConnState.
func (s *parkableConn) changed(state http.ConnState) {
	s.guard.Changed(state)
	if state == http.StateIdle {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state = connIdle
	}
}

// SetReadDeadline sets an earlier deadline than t for the first bytes of the next request.
func (s *parkableConn) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case connIdle:
		s.state, s.until = connWaiting, t
		if soon := time.Now().Add(s.parked.parkAfter); t.IsZero() || soon.Before(t) {
			t = soon
		}
	case connWaiting: // the first bytes are read
		s.state = connBusy
	case connBusy, connParking, connParked:
	}
	return s.Conn.SetReadDeadline(t)
}

// Read reads through the guard.
func (s *parkableConn) Read(p []byte) (int, error) { return s.guard.Read(p) }

// receive reads from the TLS connection. It returns a deadline error if the connection is to be
// parked or net/http's deadline has passed.
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

// keepWaiting decides about a connection without data at parkAfter. The connection stays in
// net/http if net/http holds bytes of the next request, because parking would lose them. In this
// case the buffer that net/http reads into has less space.
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
	case connParked: // another parkableConn may own the connection
		return nil
	case connBusy, connIdle, connWaiting:
	}
	return s.Conn.Close()
}

// leave returns the state, and sets it to connParked after connParking.
func (s *parkableConn) leave() connState {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.state
	if was == connParking {
		s.state = connParked
	}
	return was
}

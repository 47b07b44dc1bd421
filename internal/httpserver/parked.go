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

// ParkAfter is how long net/http keeps a connection that has no request in hand. It holds two
// buffers of 4 KiB for each, and a stack of 8 KiB that the requests have grown. Coming back
// from the lobby costs a request some 50 µs, so those that follow each other stay. A lane has no
// buffers to spare either; it keeps them for half as long at least.
const ParkAfter = 5 * time.Second

// A parkedConns is where connections over HTTP/1.1 wait for their next request: TLS still has
// them, net/http does not. It is safe for concurrent use.
type parkedConns struct {
	lane        *fastpath.Server // serves what is plain; nil: net/http serves all
	first, idle time.Duration    // how long they may be without a request: at first, and later
	parkAfter   time.Duration    // after which they come here
	handOff     func(net.Conn)   // gets those that have something to say
	refuse      MalformedHandler // of their malformed requests

	mu      sync.Mutex
	waiting map[*tls.Conn]struct{} // nil: closed
	leaving int                    // given back, and not taken yet
}

func newParkedConns(plain *fastpath.Server, first, idle time.Duration, refuse MalformedHandler) *parkedConns {
	return &parkedConns{lane: plain, first: first, idle: idle, parkAfter: ParkAfter, refuse: refuse, waiting: make(map[*tls.Conn]struct{})}
}

// add takes a connection that is new.
func (l *parkedConns) add(c *tls.Conn) {
	if l.lane == nil {
		l.handOver(c, nil)
		return
	}
	l.park(c, time.Now().Add(l.first))
}

// park lets c, which nobody else uses any more, wait until a time; zero: for ever.
func (l *parkedConns) park(c *tls.Conn, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		until = time.Unix(1, 0)
	} else {
		l.waiting[c] = struct{}{}
	}
	_ = c.SetDeadline(until) // of writes, too: TLS may answer what is read
	go l.wait(c)
}

// wait serves c, or gives it back, with the first byte that comes, and closes it if none does.
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

// serve serves c, of which something has been read, as far as it is plain.
func (l *parkedConns) serve(c *tls.Conn, read []byte) {
	if l.lane == nil {
		l.handOver(c, read)
		return
	}
	switch outcome, unserved, rests := l.lane.Serve(c, read); outcome {
	case fastpath.Over:
	case fastpath.Idle:
		l.park(c, rests.Add(l.idle))
	case fastpath.Other:
		l.handOver(c, unserved)
	}
}

// handOver gives c to net/http, which reads it through a guard, and early before it.
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

// count returns how many connections wait, or are on their way out.
func (l *parkedConns) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) + l.leaving
}

// close ends the connections that wait, and those that come to.
func (l *parkedConns) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.waiting {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
	l.waiting = nil
	if l.lane != nil {
		l.lane.Close()
	}
}

// A parkableConn is a connection over HTTP/1.1 from when net/http gets it to when that closes it,
// or would wait for another request for longer than a while: then net/http is told that the
// connection is over, and what it closes goes to the lobby.
type parkableConn struct {
	*tls.Conn
	parked *parkedConns
	guard  *http1guard.Guard

	// Of the one goroutine that reads at a time.
	early []byte // was read before
	room  int    // in net/http's buffer while nothing is in it

	mu    sync.Mutex
	state connState
	until time.Time // when net/http would wait no longer, zero for never
}

// A connState is how far net/http is on its way from one request to the next: it says that the
// connection is idle, sets a deadline, waits for the first bytes, and sets another.
type connState uint8

const (
	connBusy connState = iota
	connIdle
	connWaiting // the first bytes
	connParking // to the lobby, with Close
	connParked
)

// changed takes the connection's states of http.Server.ConnState.
func (s *parkableConn) changed(state http.ConnState) {
	s.guard.Changed(state)
	if state == http.StateIdle {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state = connIdle
	}
}

// SetReadDeadline sets an earlier one for the first bytes of the next request.
func (s *parkableConn) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case connIdle:
		s.state, s.until = connWaiting, t
		if soon := time.Now().Add(s.parked.parkAfter); t.IsZero() || soon.Before(t) {
			t = soon
		}
	case connWaiting: // they are there
		s.state = connBusy
	case connBusy, connParking, connParked:
	}
	return s.Conn.SetReadDeadline(t)
}

// Read reads what the guard lets through.
func (s *parkableConn) Read(p []byte) (int, error) { return s.guard.Read(p) }

// receive reads as TLS does, until net/http is to wait no longer.
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

// keepWaiting decides what becomes of a stay when nothing has come in time. It goes on where
// net/http would still wait and holds bytes of the next request, which would be lost:
// then there is less room in the buffer that it reads into.
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

// Close closes the connection, or takes it to the lobby.
func (s *parkableConn) Close() error {
	switch s.leave() {
	case connParking:
		s.parked.park(s.Conn, s.until)
		return nil
	case connParked: // it may be another stay's
		return nil
	case connBusy, connIdle, connWaiting:
	}
	return s.Conn.Close()
}

// leave returns how far the pause is, and ends that of leaving.
func (s *parkableConn) leave() connState {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.state
	if was == connParking {
		s.state = connParked
	}
	return was
}

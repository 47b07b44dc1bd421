package http1

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// A socket is a connection, below TLS, that can be asked whether something has arrived.
type socket struct {
	net.Conn
	raw     syscall.RawConn // nil: it cannot be asked
	look    func(uintptr)   // readNow, made once
	cut     func()          // sever, likewise
	looking bool            // Read takes what is there and does not wait
	noisy   bool            // something was there
	sent    int64
	records *records // nil: TLS is not spoken

	into []byte // of readNow, as are these
	n    int
	err  error
}

func newSocket(conn net.Conn) *socket {
	s := &socket{Conn: conn}
	s.look, s.cut = s.readNow, s.sever
	if able, ok := conn.(syscall.Conn); ok {
		s.raw, _ = able.SyscallConn() // its error is that conn is closed, as is found then
	}
	return s
}

// quiet is the error of a read that would have to wait. It is a temporary one, after which
// package tls goes on.
type quiet struct{}

func (quiet) Error() string   { return "nothing has arrived" }
func (quiet) Timeout() bool   { return true }
func (quiet) Temporary() bool { return true }

var errBlind = errors.New("the connection cannot be asked what has arrived")

func (s *socket) Read(p []byte) (int, error) {
	if !s.looking {
		n, err := s.Conn.Read(p)
		if s.records != nil {
			s.records.pass(p[:n])
		}
		return n, err
	}
	if s.raw == nil {
		return 0, errBlind
	}
	s.into = p
	// Not RawConn.Read, which fails when a deadline has passed that was for others.
	if err := s.raw.Control(s.look); err != nil {
		return 0, err
	}
	s.into = nil
	switch {
	case s.n > 0:
		s.noisy = true
		return s.n, nil
	case errors.Is(s.err, syscall.EAGAIN):
		return 0, quiet{}
	case s.err != nil:
		return 0, s.err
	}
	return 0, io.EOF
}

// readNow reads from the descriptor, which like all of package net does not block.
func (s *socket) readNow(descriptor uintptr) {
	s.n, s.err = syscall.Read(int(descriptor), s.into)
}

func (s *socket) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.sent += int64(n)
	return n, err
}

// expect sets the deadline of what follows; the zero time sets none.
func (s *socket) expect(deadline time.Time) { _ = s.SetDeadline(deadline) } // if it fails, so will what follows

// sever ends the connection at once, whoever uses it.
func (s *socket) sever() { _ = s.Conn.Close() }

// isTorn reports whether only a piece of what was read last has come. Package tls keeps it
// until the rest comes, and tells nobody.
func (s *socket) isTorn() bool {
	return s.records != nil && (s.records.header > 0 || s.records.left > 0)
}

// records is how far the records of TLS have come (RFC 8446 section 5.1).
type records struct {
	header int     // how much of the next one's header
	length [2]byte // the end of that
	left   int     // of the one after its header
}

// pass takes note of what was read.
func (r *records) pass(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left, p = r.left-n, p[n:]
			continue
		}
		if r.header >= 3 { // type and version come before
			r.length[r.header-3] = p[0]
		}
		p = p[1:]
		if r.header++; r.header == 5 {
			r.header, r.left = 0, int(binary.BigEndian.Uint16(r.length[:]))
		}
	}
}

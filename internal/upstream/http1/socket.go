package http1

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// unwatched is how long a request may take until the end of its context is watched for.
// Most are over by then, and to begin and end the watch costs more than to set a deadline.
const unwatched = 50 * time.Millisecond

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

	// The request that is under way.
	ctx  context.Context // nil: it is watched already, or there is none
	by   time.Time       // the deadline that counts once it is watched
	stop func() bool     // ends the watch; nil: there is none

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
		if s.waited(err) {
			n, err = s.Conn.Read(p)
		}
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
	if s.waited(err) {
		var rest int
		rest, err = s.Conn.Write(p[n:])
		n += rest
	}
	s.sent += int64(n)
	return n, err
}

// begin prepares s for a request with this context, which may wait for so long.
func (s *socket) begin(ctx context.Context, timeout time.Duration) {
	now := time.Now()
	s.sent, s.ctx, s.by = 0, ctx, now.Add(timeout)
	s.expect(now.Add(min(timeout, unwatched)))
}

// waited reports whether a read or write is to go on that has failed with err: it has met
// the deadline that is there to begin the watch. Package tls, to which each failure is the
// last, does not hear of it.
func (s *socket) waited(err error) bool {
	if err == nil || s.ctx == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	s.watch()
	s.expect(s.by)
	return true
}

// watch severs s when the request's context ends, or has ended.
func (s *socket) watch() {
	if s.ctx != nil {
		s.stop = context.AfterFunc(s.ctx, s.cut)
		s.ctx = nil
	}
}

// unwatch ends what begin has begun, and reports whether s was not severed, nor will be.
func (s *socket) unwatch() bool {
	stop := s.stop
	s.ctx, s.stop = nil, nil
	return stop == nil || stop()
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

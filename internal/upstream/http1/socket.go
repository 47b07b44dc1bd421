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

// unwatched is how long a request runs before the end of its context is watched. Most requests end
// earlier, and starting and stopping the watch costs more than setting a deadline.
const unwatched = 50 * time.Millisecond

// A socket is a connection below TLS that can tell whether bytes have arrived.
type socket struct {
	net.Conn
	raw     syscall.RawConn // nil: the connection cannot tell
	look    func(uintptr)   // the method value readNow, allocated once
	cut     func()          // the method value sever, allocated once
	looking bool            // Read returns the bytes that have arrived and does not wait
	noisy   bool            // a Read while looking found bytes
	sent    int64
	records *records // nil without TLS

	// The request that is under way.
	ctx  context.Context // nil: the context is watched already, or there is no request
	by   time.Time       // the deadline once the context is watched
	stop func() bool     // stops the watch; nil: no watch runs

	into []byte // parameter of readNow; n and err are its results
	n    int
	err  error
}

func newSocket(conn net.Conn) *socket {
	s := &socket{Conn: conn}
	s.look, s.cut = s.readNow, s.sever
	if able, ok := conn.(syscall.Conn); ok {
		s.raw, _ = able.SyscallConn() // fails only for a closed conn, and every later call fails too
	}
	return s
}

// quiet is the error of a read that would have to wait. It is temporary, so that crypto/tls does
// not make it permanent.
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
	// RawConn.Read would fail after a deadline that was set for another read.
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

// readNow reads from the descriptor, which does not block, like all descriptors of package net.
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

// begin prepares s for a request with the context ctx, which must end within timeout.
func (s *socket) begin(ctx context.Context, timeout time.Duration) {
	now := time.Now()
	s.sent, s.ctx, s.by = 0, ctx, now.Add(timeout)
	s.expect(now.Add(min(timeout, unwatched)))
}

// waited reports whether a read or write that failed with err must be repeated: it met the deadline
// at which the watch of the context begins. crypto/tls does not see the error, because it makes
// every write error permanent.
func (s *socket) waited(err error) bool {
	if err == nil || s.ctx == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	s.watch()
	s.expect(s.by)
	return true
}

// watch makes the end of the request's context close s.
func (s *socket) watch() {
	if s.ctx != nil {
		s.stop = context.AfterFunc(s.ctx, s.cut)
		s.ctx = nil
	}
}

// unwatch undoes begin. It reports whether s has not been closed by the end of the context, and
// will not be.
func (s *socket) unwatch() bool {
	stop := s.stop
	s.ctx, s.stop = nil, nil
	return stop == nil || stop()
}

// expect sets the deadline of further reads and writes; the zero time means no deadline.
func (s *socket) expect(deadline time.Time) { _ = s.SetDeadline(deadline) } // if it fails, further reads and writes fail too

// sever closes the connection at once. Any goroutine may call it.
func (s *socket) sever() { _ = s.Conn.Close() }

// isTorn reports whether only part of a TLS record has arrived. crypto/tls keeps that part until
// the rest arrives, and no method of tls.Conn shows it.
func (s *socket) isTorn() bool {
	return s.records != nil && (s.records.header > 0 || s.records.left > 0)
}

// records counts how much of the last TLS record has been read (RFC 8446 section 5.1).
type records struct {
	header int     // bytes read of the record's header
	length [2]byte // the last two bytes of the header: the length of the content
	left   int     // bytes of the content that have not been read
}

// pass counts the bytes p, which have been read.
func (r *records) pass(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left, p = r.left-n, p[n:]
			continue
		}
		if r.header >= 3 { // after type and version
			r.length[r.header-3] = p[0]
		}
		p = p[1:]
		if r.header++; r.header == 5 {
			r.header, r.left = 0, int(binary.BigEndian.Uint16(r.length[:]))
		}
	}
}

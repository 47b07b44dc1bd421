package upstream

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

// unwatched is how long a request runs before the socket watches the context of the request. Most
// requests end earlier, and a deadline costs less than the start and the stop of the watch.
const unwatched = 50 * time.Millisecond

// A socket is a connection below TLS that can check, without waiting, whether bytes have arrived.
type socket struct {
	net.Conn
	raw     syscall.RawConn // nil: the connection cannot be checked
	look    func(uintptr)   // the method value readNow, allocated once
	cut     func()          // the method value sever, allocated once
	looking bool            // true: Read returns only bytes that have arrived already, and Write fails; neither waits
	noisy   bool            // true if a Read found bytes while looking was set
	sent    int64
	records *records // nil without TLS

	// The fields of the current request.
	ctx  context.Context // nil if there is no request, and after the start of the watch
	by   time.Time       // the deadline after the start of the watch
	stop func() bool     // stops the watch; nil: no watch runs

	deadline time.Time // the deadline of reads and writes

	into []byte // parameter of readNow, whose results are n and err
	n    int
	err  error
}

func newSocket(conn net.Conn) *socket {
	s := &socket{Conn: conn}
	s.look, s.cut = s.readNow, s.sever
	if able, ok := conn.(syscall.Conn); ok {
		s.raw, _ = able.SyscallConn() // fails only for a closed connection, on which every later call fails too
	}
	return s
}

// quiet is the error of a read that would have to wait. The error is temporary, because crypto/tls
// returns any other error again on each later read.
type quiet struct{}

func (quiet) Error() string   { return "nothing has arrived" }
func (quiet) Timeout() bool   { return true }
func (quiet) Temporary() bool { return true }

// errCut is the error of a TLS connection that ended without a close_notify alert. crypto/tls would return
// io.EOF, which ends a response without a length. RFC 9112 section 9.8: such a response is complete only
// after the alert.
var errCut = errors.New("the connection ended without a TLS close_notify alert")

var (
	errBlind   = errors.New("the connection cannot be asked what has arrived")
	errLooking = errors.New("the check of an idle connection sends nothing")
)

func (s *socket) Read(p []byte) (int, error) {
	if !s.looking {
		n, err := s.Conn.Read(p)
		if s.waited(err) {
			n, err = s.Conn.Read(p)
		}
		if s.records != nil {
			s.records.pass(p[:n])
			if err == io.EOF { //nolint:errorlint // as crypto/tls compares it
				err = errCut
			}
		}
		return n, err
	}
	if s.raw == nil {
		return 0, errBlind
	}
	s.into = p
	// Unlike RawConn.Read, Control works even if the deadline of an earlier read has passed.
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

// readNow reads from the descriptor without waiting: all descriptors of package net are non-blocking.
func (s *socket) readNow(descriptor uintptr) {
	s.n, s.err = syscall.Read(int(descriptor), s.into)
}

func (s *socket) Write(p []byte) (int, error) {
	if s.looking { // crypto/tls sends an alert, or its next key; the server may read nothing
		return 0, errLooking
	}
	n, err := s.Conn.Write(p)
	if s.waited(err) {
		var rest int
		rest, err = s.Conn.Write(p[n:])
		n += rest
	}
	s.sent += int64(n)
	return n, err
}

// begin prepares s for a request with the context ctx. Reads and writes fail once timeout has
// passed.
func (s *socket) begin(ctx context.Context, timeout time.Duration) {
	now := time.Now()
	s.sent, s.ctx, s.by = 0, ctx, now.Add(timeout)
	// If enough of the last request's deadline is left, it stays: the watch only begins earlier.
	if left := s.deadline.Sub(now); left < unwatched/5 || left > min(timeout, unwatched) {
		s.expect(now.Add(min(timeout, unwatched)))
	}
}

// waited starts the watch of the context and returns true if err is the passing of the first deadline, after
// unwatched. The caller must then repeat the failed read or write. It does so below crypto/tls, because
// crypto/tls would return a write error again from each later write.
func (s *socket) waited(err error) bool {
	if err == nil || s.ctx == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	s.watch()
	s.expect(s.by)
	return true
}

// watch makes s close when the request's context ends.
func (s *socket) watch() {
	if s.ctx != nil {
		s.stop = context.AfterFunc(s.ctx, s.cut)
		s.ctx = nil
	}
}

// unwatch ends the watch that begin prepared. It returns false if the end of the context has closed s or is
// about to close s.
func (s *socket) unwatch() bool {
	if s.stop == nil {
		s.ctx = nil
		return true
	}
	stop := s.stop // watch has removed ctx, and an upload may still write
	s.stop = nil
	return stop()
}

// expect sets the deadline of further reads and writes; the zero time means no deadline.
func (s *socket) expect(deadline time.Time) {
	s.deadline = deadline
	_ = s.SetDeadline(deadline) // an error here is ignored, because further reads and writes fail too
}

// CloseWrite closes the direction to the server, or s if the connection has no such half.
func (s *socket) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return s.Close()
}

// sever closes the connection at once. Any goroutine may call it.
func (s *socket) sever() { _ = s.Conn.Close() }

// isTorn reports whether only part of a TLS record has arrived. crypto/tls keeps that part until the
// rest arrives, and tls.Conn has no method that reports it.
func (s *socket) isTorn() bool {
	return s.records != nil && (s.records.header > 0 || s.records.left > 0)
}

// records counts how many bytes of the current TLS record have been read (RFC 8446 section 5.1).
type records struct {
	header int     // bytes read of the record's header
	length [2]byte // the last two bytes of the header: the length of the content
	left   int     // bytes of the content that have not been read
}

// pass counts the bytes p, which have just been read.
func (r *records) pass(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left, p = r.left-n, p[n:]
			continue
		}
		if r.header >= 3 { // the byte after the type and the version of the record
			r.length[r.header-3] = p[0]
		}
		p = p[1:]
		if r.header++; r.header == 5 {
			r.header, r.left = 0, int(binary.BigEndian.Uint16(r.length[:]))
		}
	}
}

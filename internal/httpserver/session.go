package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/mtls"
)

// ParkAfter is how long an idle connection keeps its buffers and its stack, 16 KiB together. A connection may
// be parked after half of this time, see deadline.within.
const ParkAfter = 5 * time.Second

// A session serves the requests of a connection between two long idle times. Only the goroutine of run uses
// it, except for the fields that are atomic or guarded by a mutex.
type session struct {
	*conn
	*http1.Buffers
	context    context.Context // the context of all requests; it ends when the client has disconnected
	cancel     context.CancelFunc
	blank      http.Request // what the requests have in common
	watch      watch
	early      []byte // bytes that have been received and that in has not read yet
	body       *body  // nil if the request has no body
	response   *response
	idleSince  time.Time   // the end of the last response, when the connection became idle
	sent       bool        // part of the final response has been sent
	unsent     atomic.Bool // a write has failed
	dateSecond int64
	dateText   []byte
}

// An end says why a session ended.
type end uint8

const (
	idle     end = iota // no request has arrived for some time
	over                // the connection must be closed
	broken              // the connection must be closed, and nothing more can be sent
	unread              // the connection must be closed, but bytes of the client may still arrive
	hijacked            // the handler has the connection
)

func newSession(c *conn) *session {
	s := &session{conn: c, early: append(make([]byte, 0, 1), c.first[0]), idleSince: time.Now()}
	s.context, s.cancel = context.WithCancel(mtls.ConnContext(context.Background(), c.net))
	s.blank = *(&http.Request{RemoteAddr: c.net.RemoteAddr().String(), ProtoMajor: 1, Body: http.NoBody}).WithContext(s.context)
	if secure, ok := c.net.(*tls.Conn); ok {
		state := secure.ConnectionState()
		s.blank.TLS = &state
	}
	s.Buffers = http1.NewBuffers(s, s)
	s.watch.init(s)
	return s
}

// release returns the buffers to the pool.
func (s *session) release() {
	s.cancel()
	s.Buffers.Release()
	s.Buffers = nil
}

// Read reads from the client. If the client has disconnected, the context of the request ends.
func (s *session) Read(p []byte) (int, error) {
	if len(s.early) == 0 {
		n, err := s.receive(p)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			s.cancel()
		}
		return n, err
	}
	n := copy(p, s.early)
	s.early = s.early[n:]
	return n, nil
}

// Write sends p to the client, within one stall timeout if the handler has set no deadline. A failed write ends the
// context of the request.
func (s *session) Write(p []byte) (int, error) {
	s.conn.write.begin(s.server.Limits.StallTimeout)
	defer s.conn.write.end()
	n, err := s.net.Write(p)
	s.sent = true
	if err != nil {
		s.unsent.Store(true)
		s.cancel()
	}
	return n, err
}

// run serves requests, one after another.
func (s *session) run() end {
	for {
		head, err := s.readHead()
		if err == nil {
			var x *exchange
			if x, err = s.newExchange(&head); err == nil {
				if next := s.serve(x, s.server.Handler.ServeHTTP); next != idle {
					return next
				}
				continue
			}
		}
		var fault http1.Error
		switch {
		case errors.As(err, &fault):
			return s.refuse(fault)
		case errors.Is(err, os.ErrDeadlineExceeded) && s.In.Buffered() == 0 && !s.ends():
			return idle
		}
		return over
	}
}

// readHead reads the head of the next request.
func (s *session) readHead() (http1.Request, error) {
	s.Begin()
	limit := int(s.server.Limits.HeaderBytes)
	for began := false; ; {
		received := s.In.Buffered()
		head, n, err := s.ParseRequest()
		switch {
		case err != nil:
			return http1.Request{}, err
		case n > limit || n == 0 && received > limit:
			return http1.Request{}, http1.ErrHeadSize
		case n > 0:
			return head, nil
		case received == 0 && len(s.early) == 0:
			if err := s.await(); err != nil {
				return http1.Request{}, err
			}
			continue
		case !began:
			began = true
			_ = s.conn.read.at(time.Now().Add(s.server.Limits.HeaderTimeout))
		}
		if err := s.More(limit); err != nil {
			return http1.Request{}, err
		}
	}
}

// await waits for the first byte of the next request.
func (s *session) await() error {
	s.conn.idle.Store(true)
	defer s.conn.idle.Store(false)
	s.conn.read.within(s.idleSince, s.server.parkAfter)
	if s.ends() { // see conn.wait
		return http.ErrServerClosed
	}
	_, err := s.In.Peek(1)
	return err
}

// serve answers the request of x by handler. It returns idle if the connection can carry another request.
func (s *session) serve(x *exchange, handler http.HandlerFunc) end {
	s.sent = false
	if !s.used.Load() {
		s.used.Store(true)
	}
	s.setTimeouts()
	s.watch.enable()
	if s.body == nil {
		s.watch.begin()
	}
	w := &x.response
	served := s.call(handler, w, &x.request)
	stays := s.watch.end()
	whole := s.body == nil || s.body.end()
	switch {
	case w.hijacked:
		return hijacked
	case !served:
		w.breakOff()
	}
	more := served && w.finish()
	s.idleSince = time.Now()
	switch {
	case s.unsent.Load():
		return broken
	case !served || !stays:
		return over
	case more && whole:
		return idle
	case !whole || s.In.Buffered() > 0 || len(s.early) > 0:
		return unread
	}
	return over
}

// setTimeouts sets the deadlines of a request and its response. If the handler bounds the time of bodies, it sets none;
// then Write bounds each write.
func (s *session) setTimeouts() {
	var readBy, writeBy time.Time
	if l := &s.server.Limits; !s.server.HandlerBoundsTime {
		now := time.Now()
		readBy, writeBy = now.Add(l.HeaderTimeout), now.Add(l.StallTimeout)
	}
	if s.body != nil {
		_ = s.conn.read.at(readBy)
	}
	_ = s.conn.write.at(writeBy)
}

// call runs the handler and reports whether the handler returned without a panic.
func (s *session) call(handler http.HandlerFunc, w *response, r *http.Request) (served bool) {
	defer func() {
		if served {
			return
		}
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // compared as net/http does: only this very value is the signal
			s.server.Panicked(s.net.RemoteAddr(), NewPanicError(v))
		}
	}()
	handler(w, r)
	return true
}

// refusalTimeout bounds the sending of the response to a malformed request.
const refusalTimeout = 5 * time.Second

// refuse answers a malformed request. The handler gets a request with only the addresses and the TLS state.
func (s *session) refuse(fault http1.Error) end {
	x := s.blankExchange()
	x.response.mustClose = true
	next := s.serve(x, func(w http.ResponseWriter, r *http.Request) {
		_ = s.conn.write.at(time.Now().Add(refusalTimeout))
		s.server.RefuseMalformed(w, r, fault)
	})
	if next == broken {
		return next
	}
	return unread // more of the malformed request may arrive
}

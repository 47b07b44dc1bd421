package httpserver

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/tallygate/tallygate/internal/http1"
)

// continues sends 100 Continue, unless the handler has sent the final header or has returned.
func (w *response) continues() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 && !w.ended {
		w.inform(http.StatusContinue, nil)
	}
}

// breakOff ends the response without a terminator, so that the client can tell that it is truncated. It
// sends the whole header or no part of it, because some clients take a connection that ends inside the
// header for a response without a body.
func (w *response) breakOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	switch s := w.session; {
	case !s.sent:
		s.Out.Reset(s)
	case !w.began: // the header was larger than the buffer
		w.begin(http1.Chunked)
		fallthrough
	default:
		_ = s.Out.Flush()
	}
	if w.framing == untilClose {
		w.session.reset()
	}
}

var errTaken = errors.New("the request has a body that has not been read, or a response")

// TakeConn implements [http1.ResponseWriter].
func (w *response) TakeConn() (net.Conn, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.session
	switch {
	case w.hijacked:
		return nil, nil, http.ErrHijacked
	case w.status != 0 || !s.bodyRead():
		return nil, nil, errTaken
	}
	w.hijacked = true
	s.watch.end()
	received := append(bytes.Clone(s.Pending()), s.early...)
	s.conn.write.now(time.Time{}) // from now on, the handler sets the deadlines of the connection
	return s.net, received, s.net.SetDeadline(time.Time{})
}

// SetReadDeadline sets the deadline for reading the body.
func (w *response) SetReadDeadline(t time.Time) error { return w.session.read.at(t) }

// SetWriteDeadline sets the deadline of all further writes. They may time out a little earlier, see slack. The zero
// time leaves each write its stall timeout.
func (w *response) SetWriteDeadline(t time.Time) error { return w.session.write.at(t) }

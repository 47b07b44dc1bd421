package fastpath

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// beginning is how much of a body is held back, so that its length can be told when it is
// over by then.
const beginning = 2 << 10

const unknown = -1

// A framing is how the end of an answer's body is told (RFC 9112 section 6).
type framing uint8

const (
	undecided framing = iota
	counted
	chunked
	none // there is no body
)

// An answer is the http.ResponseWriter of a request, with what http.ResponseController can
// do but to hijack the connection. It makes of what it is told what net/http makes of it.
type answer struct {
	conn     *conn
	request  *http.Request
	header   http.Header
	status   int   // 0 before
	length   int64 // as declared, or unknown
	written  int64
	held     int // bytes in the connection's small
	framing  framing
	ended    bool     // the header is
	sniffed  bool     // the type is to be told by the body's beginning
	counts   bool     // a length is to be told when the body is over soon
	trailers []string // as declared
	trailing bool     // there may be others
	last     bool     // the connection ends with it
	closing  bool     // and that has yet to be said
}

// Header returns the header, which WriteHeader sends.
func (a *answer) Header() http.Header { return a.header }

// Write sends some of the body, or holds it back while that may still be its end.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, nil
	case !hasBody(a.status):
		return 0, http.ErrBodyNotAllowed
	}
	a.written += int64(len(p))
	if a.length != unknown && a.written > a.length {
		return 0, http.ErrContentLength
	}
	if a.ended {
		return a.send(p)
	}
	if a.held == 0 && (len(p) > beginning || a.framing == counted && !a.sniffed) {
		a.begin(p, false)
		return a.send(p)
	}
	held := copy(a.conn.small[a.held:], p)
	a.held += held
	if held == len(p) {
		return held, nil
	}
	a.begin(nil, false)
	n, err := a.send(p[held:])
	return held + n, err
}

// begin ends the header. The body begins with what is held back, or with p, and over tells
// whether it ends there.
func (a *answer) begin(p []byte, over bool) {
	a.ended = true
	out := a.conn.out
	if a.held > 0 {
		p = a.conn.small[:a.held]
	}
	if over && a.counts && (len(p) > 0 || a.request.Method != http.MethodHead) {
		a.length = int64(len(p))
		if a.framing == undecided {
			a.framing = counted
		}
		_, _ = out.WriteString("Content-Length: ")
		_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), a.length, 10))
		_, _ = out.WriteString("\r\n")
	}
	if a.framing == undecided {
		a.framing = chunked
	}
	if a.sniffed && len(p) > 0 {
		_, _ = out.WriteString("Content-Type: ")
		_, _ = out.WriteString(http.DetectContentType(p))
		_, _ = out.WriteString("\r\n")
	}
	if a.closing {
		_, _ = out.WriteString("Connection: close\r\n")
	}
	if a.framing == chunked {
		_, _ = out.WriteString("Transfer-Encoding: chunked\r\n")
	}
	_, _ = out.WriteString("\r\n")
	if a.held > 0 {
		_, _ = a.send(p)
		a.held = 0
	}
}

// send writes some of the body.
func (a *answer) send(p []byte) (int, error) {
	out := a.conn.out
	switch a.framing {
	case none:
		return len(p), nil
	case counted, undecided:
		return out.Write(p)
	case chunked:
	}
	_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), int64(len(p)), 16))
	_, _ = out.WriteString("\r\n")
	_, _ = out.Write(p)
	if _, err := out.WriteString("\r\n"); err != nil {
		return 0, err
	}
	return len(p), nil
}

// FlushError sends what has been written.
func (a *answer) FlushError() error {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.ended {
		a.begin(nil, false)
	}
	return a.conn.out.Flush()
}

// Flush is FlushError for those who do not care.
func (a *answer) Flush() { _ = a.FlushError() }

// SetReadDeadline does nothing: the request has been read.
func (a *answer) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline sets the connection's, which may come a little earlier.
func (a *answer) SetWriteDeadline(t time.Time) error { return a.conn.setWriteDeadline(t) }

// EnableFullDuplex does nothing: the request has been read.
func (a *answer) EnableFullDuplex() error { return nil }

// finish ends the answer, and sends what is left of it.
func (a *answer) finish() {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.ended {
		a.begin(nil, true)
	}
	out := a.conn.out
	if a.framing == chunked {
		_, _ = out.WriteString("0\r\n")
		_ = a.trailer().Write(out)
		_, _ = out.WriteString("\r\n")
	}
	_ = out.Flush()
}

// breakOff leaves the answer without an end. There are clients to whom a connection that ends
// within a header ends that, and an empty body: either all of it is sent or nothing.
func (a *answer) breakOff() {
	switch {
	case a.ended:
	case a.conn.sent:
		a.begin(nil, false)
	default:
		a.conn.out.Reset(a.conn)
	}
	_ = a.conn.out.Flush()
}

// trailer returns the fields after the body: those that were declared, and those that say so.
func (a *answer) trailer() http.Header {
	t := make(http.Header)
	for name, values := range a.header {
		if name, is := strings.CutPrefix(name, http.TrailerPrefix); is {
			t[name] = values
		}
	}
	for _, name := range a.trailers {
		if values := a.header[name]; values != nil {
			t[name] = append(t[name], values...)
		}
	}
	return t
}

// isWhole reports whether the body is as long as was said.
func (a *answer) isWhole() bool {
	return a.framing != counted || a.written == a.length
}

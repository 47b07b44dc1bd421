package fastpath

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// beginning is how many bytes of a body an answer holds back. A body that ends within these bytes gets
// a Content-Length.
const beginning = 2 << 10

const unknown = -1

// A framing says how the recipient finds the end of a body (RFC 9112 section 6).
type framing uint8

const (
	undecided framing = iota
	counted
	chunked
	none // the answer has no body
)

// An answer is the http.ResponseWriter of one request. It supports http.ResponseController except for
// Hijack, and sends the same bytes as net/http does for the same calls.
type answer struct {
	conn     *conn
	request  *http.Request
	header   http.Header
	status   int   // 0 until WriteHeader sets it
	length   int64 // the declared Content-Length, or unknown
	written  int64
	held     int // number of body bytes in the connection's buffer small
	framing  framing
	ended    bool     // the header is complete
	sniffed  bool     // the Content-Type is detected from the first bytes of the body
	counts   bool     // a Content-Length is added if the whole body is held back
	trailers []string // names of trailers that the header field Trailer declares
	trailing bool     // the handler may set trailers after WriteHeader
	last     bool     // the connection closes after the answer
	closing  bool     // the header lacks a necessary Connection: close
}

// Header returns the header that WriteHeader sends.
func (a *answer) Header() http.Header { return a.header }

// Write sends part of the body. It holds the first bytes of the body back, because the length of a
// short body is known only at the end of the body.
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

// begin completes the header and sends the held bytes. If there are no held bytes, p holds the first
// bytes of the body, which the caller sends. over reports whether the body ends after the held bytes or
// p.
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

// send writes part of the body.
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

// FlushError sends everything that has been written.
func (a *answer) FlushError() error {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.ended {
		a.begin(nil, false)
	}
	return a.conn.out.Flush()
}

// Flush calls FlushError and ignores the error.
func (a *answer) Flush() { _ = a.FlushError() }

// SetReadDeadline does nothing, because the whole request has been read.
func (a *answer) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline sets the connection's write deadline to t, or up to slack earlier.
func (a *answer) SetWriteDeadline(t time.Time) error { return a.conn.setWriteDeadline(t) }

// EnableFullDuplex does nothing, because the whole request has been read.
func (a *answer) EnableFullDuplex() error { return nil }

// finish completes the answer and sends all bytes that are still buffered.
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

// breakOff ends the answer without a terminator, so that the client can tell that the answer is
// truncated. breakOff sends the whole header or no part of the header, because some clients take a
// connection that closes inside the header for an answer with an empty body.
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

// trailer returns the trailers: the declared fields, and the fields whose name begins with
// http.TrailerPrefix.
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

// isWhole reports whether the body has its declared length.
func (a *answer) isWhole() bool {
	return a.framing != counted || a.written == a.length
}

package httpserver

import (
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/tallygate/tallygate/internal/http1"
)

// smallBody is how many bytes of a body a response holds back. A body that ends within these bytes
// gets a Content-Length.
const smallBody = 2 << 10

// A framing says how the client finds the end of a body (RFC 9112 section 6.3).
type framing uint8

const (
	undecided framing = iota
	counted
	chunked
	untilClose // for HTTP/1.0 clients
	none       // the response has no body
)

// A response is the [http1.ResponseWriter] of one request. It also supports [http.ResponseController].
type response struct {
	session   *session
	method    string
	minor     int // the minor version of the request
	mustClose bool

	mu       sync.Mutex // held while an informational response or the start of the final header is written
	header   http.Header
	status   int    // 0 before the final header
	length   int64  // the Content-Length, or a negative number without Content-Length
	written  int64  // the number of bytes of the body, whether they are sent or not
	held     []byte // the bytes of the body that wait for the end of the header
	framing  framing
	began    bool // the header is complete
	last     bool // the connection closes after the response
	hijacked bool
	ended    bool // the handler has returned, and the buffers belong to the next request
	trailer  []http1.Field
}

// Header returns the map of fields that WriteHeader sends.
func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// RequestFields implements [http1.ResponseWriter].
func (w *response) RequestFields() []http1.Field { return w.session.Fields }

// BodyArrived implements [http1.ResponseWriter].
func (w *response) BodyArrived() bool {
	b := w.session.body
	return b == nil || !b.expected && b.length >= 0 && int64(w.session.In.Buffered()) >= b.length
}

// SetTrailer implements [http1.ResponseWriter].
func (w *response) SetTrailer(fields []http1.Field) { w.trailer = fields }

// CloseAfter implements [http1.ResponseWriter].
func (w *response) CloseAfter() { w.mustClose = true }

// WriteHeader starts the response with the fields in the map. It panics if a field is not valid, so that
// no part of the response is sent.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	fields, length := w.mapFields()
	if !w.start(status, fields) {
		return
	}
	if length >= 0 || !hasBody(status) {
		w.begin(length)
	}
}

// WriteFields implements [http1.ResponseWriter].
func (w *response) WriteFields(status int, fields []http1.Field, length int64) {
	if w.start(status, fields) {
		w.begin(length)
	}
}

// start writes the status line and the fields of a final response and returns true. It returns false if it
// has sent an informational response, or if a final header is no longer possible.
func (w *response) start(status int, fields []http1.Field) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.status != 0 || w.hijacked || w.ended:
		return false
	case status < 100 || status > 999 || status == http.StatusSwitchingProtocols: // only TakeConn can switch protocols
		panic(fmt.Sprintf("invalid status %d", status))
	case status < 200:
		w.inform(status, fields)
		return false
	}
	w.status = status
	out := w.session.Out
	writeStatus(out, status)
	http1.WriteFields(out, fields)
	if !http1.Has(fields, "Date") {
		_, _ = out.WriteString("Date: ")
		_, _ = out.Write(w.session.date())
		_, _ = out.WriteString("\r\n")
	}
	return true
}

// inform sends an informational response, but not to an HTTP/1.0 client (RFC 9110 section 15.2).
func (w *response) inform(status int, fields []http1.Field) {
	if w.minor == 0 {
		return
	}
	out := w.session.Out
	writeStatus(out, status)
	http1.WriteFields(out, fields)
	_, _ = out.WriteString("\r\n")
	_ = out.Flush()
	w.session.sent = false
}

// frame decides how the client finds the end of the body. length is as in WriteFields.
func (w *response) frame(length int64) {
	w.length = length
	switch {
	case w.method == http.MethodHead || !hasBody(w.status):
		w.framing = none
	case length >= 0:
		w.framing = counted
	case w.minor == 1:
		w.framing = chunked
	default:
		w.framing = untilClose
	}
}

// begin completes the header with the fields that frame the body, and sends the held bytes.
func (w *response) begin(length int64) {
	w.frame(length)
	w.began = true
	// A body that has not been read makes the connection unusable: the next request must not depend on
	// how much of the body arrives in time.
	w.last = w.mustClose || w.framing == untilClose || w.session.server.draining() || !w.session.bodyRead()
	out := w.session.Out
	if length >= 0 && w.status != http.StatusNoContent {
		writeLength(out, length)
	}
	if w.last {
		_, _ = out.WriteString("Connection: close\r\n")
	}
	if w.framing == chunked {
		_, _ = out.WriteString("Transfer-Encoding: chunked\r\n")
	}
	_, _ = out.WriteString("\r\n")
	if len(w.held) > 0 {
		_, _ = w.send(w.held)
	}
}

// Write sends part of the body. If the length of the body is not known, Write holds the first bytes back, so
// that a body that ends within smallBody bytes gets a Content-Length.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.hijacked:
		return 0, http.ErrHijacked
	case w.ended:
		return 0, errEnded
	case len(p) == 0:
		return 0, nil
	case !hasBody(w.status):
		return 0, http.ErrBodyNotAllowed
	}
	w.written += int64(len(p))
	switch {
	case w.began && w.length >= 0 && w.written > w.length:
		return 0, http.ErrContentLength
	case w.began:
		return w.send(p)
	case w.method == http.MethodHead:
		return len(p), nil
	case w.written <= smallBody:
		w.held = append(w.held, p...)
		return len(p), nil
	}
	w.begin(http1.Chunked)
	return w.send(p)
}

// send writes part of the body to the buffer of the session.
func (w *response) send(p []byte) (int, error) {
	out := w.session.Out
	switch w.framing {
	case chunked:
		if err := http1.WriteChunk(out, p); err != nil {
			return 0, err
		}
	case none:
	case undecided, counted, untilClose:
		return out.Write(p)
	}
	return len(p), nil
}

var errEnded = errors.New("the handler has returned")

// FlushError sends everything that has been written.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.hijacked:
		return http.ErrHijacked
	case w.ended:
		return errEnded
	case !w.began:
		w.begin(http1.Chunked)
	}
	return w.session.Out.Flush()
}

// Flush calls FlushError and ignores the error.
func (w *response) Flush() { _ = w.FlushError() }

// finish completes the response. It reports whether the response is whole and the connection can
// carry another response.
func (w *response) finish() (more bool) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.began:
	case w.method == http.MethodHead && w.written == 0:
		w.begin(http1.UntilClose)
	default:
		w.begin(w.written)
	}
	out := w.session.Out
	if w.framing == chunked {
		_ = http1.WriteLastChunk(out, w.trailer)
	}
	w.ended = true
	return out.Flush() == nil && !w.last && (w.framing != counted || w.written == w.length)
}

func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

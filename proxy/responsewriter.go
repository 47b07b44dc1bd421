package proxy

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/http1"
)

// A responseWriter writes the response of one request. Each write must end within one stall timeout.
// Only the goroutine of the handler uses a responseWriter, with one exception: while the handler
// waits for the upstream's response, sendInformational may be called on another goroutine.
type responseWriter struct {
	conn              *clientConn
	checked           *checkedRequest
	closing           func() bool // reports whether each response must end its connection; nil: never
	status            int         // the status of the response; 0 before its header is sent
	clientWriteFailed bool        // a write of the response to the client has failed
}

// begin prepares the connection for the header of the final response. The server itself closes a connection
// with an unread body.
func (w *responseWriter) begin(status int) {
	w.status = status
	refused := w.checked.Decision.Reason
	if end := w.conn.terminated(); end != nil { // blockWrites may have been called, but the client gets the refusal
		refused = end.decision.Reason
		w.conn.setWriteDeadline(time.Time{})
	}
	revoked := refused == access.RevokedCertificate && !w.checked.Checks.Trust.BehindProxy() // no request on the connection can be granted
	if revoked || w.checked.ambiguous() || w.closing != nil && w.closing() {
		w.conn.closeAfter()
	}
}

// ambiguous reports whether a front proxy may see the end of this request at another byte than the
// gate. A chunked request is ambiguous. Every HTTP/1.0 request is ambiguous too, because HTTP/1.0 has
// no chunks, and not every implementation has persistent connections. After CONNECT and a request for an
// upgrade, some front proxies pass all bytes of the client on unread, whatever the response is. Malformed
// requests are refused earlier. The connection of a front proxy carries requests of many clients, and the
// bytes after an ambiguous request could contain a certificate header that the client of that request
// chose. So the gate closes the connection after ambiguous requests, although they are well-formed (RFC
// 9112 sections 6.1 and 9.3).
func (c *checkedRequest) ambiguous() bool {
	r := c.Request
	return r.ProtoMajor == 1 && c.Checks.Trust.BehindProxy() &&
		(r.ProtoMinor == 0 || len(r.TransferEncoding) > 0 || r.Method == http.MethodConnect || authorize.AsksForUpgrade(r))
}

// sendHeader sends the header of the final response. length is as in
// [http1.ResponseWriter.WriteFields].
func (w *responseWriter) sendHeader(status int, fields []http1.Field, length int64) {
	w.begin(status)
	if w.conn.fields != nil {
		w.conn.fields.WriteFields(status, fields, length)
		return
	}
	h := w.conn.writer.Header()
	addFields(h, "", fields)
	if length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	if _, typed := h["Content-Type"]; !typed {
		// Otherwise net/http guesses a type from the body. A guessed type would undo the upstream's
		// X-Content-Type-Options: nosniff (RFC 9110 section 8.3 lets the recipient decide).
		h["Content-Type"] = nil
	}
	w.conn.writer.WriteHeader(status)
}

// sendInformational sends an informational response of the upstream at once.
func (w *responseWriter) sendInformational(status int, fields []http1.Field) {
	if w.conn.fields != nil {
		w.conn.fields.WriteFields(status, fields, 0)
		return
	}
	h := w.conn.writer.Header()
	addFields(h, "", fields)
	if w.checked.Request.ProtoMajor > 1 {
		// If the stream is reset, WriteHeader of the HTTP/2 server returns while another goroutine still
		// encodes the header map (golang/go#67940), so a later change of the map would be a data race.
		// The server encodes a copy of the map only if it has to remove a Content-Length, so there is a
		// Content-Length. Other headers need no such care: the server always copies a final header, and
		// the handler has returned before trailers are encoded.
		h.Set("Content-Length", "0")
	}
	w.conn.writer.WriteHeader(status)
	clear(h)
}

// setTrailer sets the trailer of the response, whose body has been sent. Over HTTP/1.1 only a response of
// unknown length has a trailer.
func (w *responseWriter) setTrailer(fields []http1.Field) {
	switch {
	case len(fields) == 0:
	case w.conn.fields != nil:
		w.conn.fields.SetTrailer(fields)
	default:
		addFields(w.conn.writer.Header(), http.TrailerPrefix, fields)
	}
}

func addFields(h http.Header, prefix string, fields []http1.Field) {
	for i := range fields {
		h.Add(prefix+fields[i].Name, fields[i].Value)
	}
}

// Write writes b within one stall timeout.
func (w *responseWriter) Write(b []byte) (int, error) {
	w.extendWriteDeadline()
	n, err := w.conn.writer.Write(b)
	w.clientWriteFailed = w.clientWriteFailed || err != nil
	return n, err
}

// FlushError writes buffered bytes within one stall timeout. Over HTTP/2 it then clears the deadline,
// because a write deadline resets a stream even if there is nothing to write.
func (w *responseWriter) FlushError() error {
	w.extendWriteDeadline()
	err := w.conn.control().Flush()
	w.clientWriteFailed = w.clientWriteFailed || err != nil
	if w.checked.Request.ProtoMajor > 1 {
		w.conn.setWriteDeadline(time.Time{})
	}
	return err
}

// extendWriteDeadline sets the write deadline to one stall timeout from now. Over HTTP/1.1 the server bounds each
// write itself.
func (w *responseWriter) extendWriteDeadline() {
	if w.checked.Request.ProtoMajor == 1 {
		return
	}
	timeout := w.conn.stall
	if w.checked.Decision.Reason != access.Granted {
		timeout = min(timeout, refusalWriteTimeout)
	}
	w.conn.setWriteDeadline(time.Now().Add(timeout))
}

// refusalWriteTimeout is how long an HTTP/2 client may take to grant a flow control window for a
// refusal of a few hundred bytes. Clients grant 64 KiB from the start. A client that grants less may
// intend to make the gate hold memory: one connection could have 128 unsent refusals.
const refusalWriteTimeout = 5 * time.Second

package proxy

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A responseWriter writes the response of one request. Each write must end within one stall timeout.
// Only the goroutine of the handler uses a responseWriter, with one exception: while the handler
// waits for the transport, the transport may call WriteHeader with an informational status on another
// goroutine.
type responseWriter struct {
	conn              *clientConn
	checked           *checkedRequest
	body              *requestBody
	headers           *headerRules
	closing           func() bool // reports whether each response must end its connection
	status            int         // the status of the response; 0 before its header is sent
	bodyWritten       bool        // at least one byte of the response body has been written
	clientWriteFailed bool        // a write of the response to the client has failed
	unrequested101    atomic.Bool // the upstream sent a 101 over HTTP/2, where 101 does not exist (RFC 9113 section 8.6)
	requestIDValue    [1]string   // the value of the response header X-Request-Id
}

// Unwrap gives http.ResponseController access to the connection.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.conn.writer }

// Header returns the header of the response.
func (w *responseWriter) Header() http.Header { return w.conn.writer.Header() }

// WriteHeader sends the header of an informational or final response. It removes identity headers
// that the upstream has set, because identity headers are for requests only (RFC 9440 section 2.2).
func (w *responseWriter) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols { // only an HTTP/2 upstream can cause this call; the 101 is not forwarded, because an HTTP/1.1 client would switch protocols
		w.unrequested101.Store(true)
		return
	}
	if status < 200 && (!w.checked.request.ProtoAtLeast(1, 1) || w.checked.decision.Preflight) { // RFC 9110 section 15.2; filterPreflight checks only final responses
		return
	}
	w.headers.removeReserved(w.Header())
	w.requestIDValue[0] = w.checked.id
	w.Header()[requestID] = w.requestIDValue[:]
	w.checked.setNonce(w.Header())
	if status >= 200 && w.status == 0 {
		w.status = status
		keepUntyped(w.Header())
		if w.body.isUnread() || w.checked.ambiguous() || w.body.mustClose() || w.closing() {
			w.Header().Set("Connection", "close")
		}
	}
	if w.checked.request.ProtoMajor == 1 {
		w.extendWriteDeadline(time.Now()) // net/http sends informational headers at once; the fast path may send a long final header
	}
	if status < 200 {
		removeHopByHop(w.Header())
		if w.checked.request.ProtoMajor > 1 {
			w.writeInformational(status)
			return
		}
	}
	w.conn.writer.WriteHeader(status)
}

// switchProtocols records the status 101 and cleans the header of a 101 as WriteHeader cleans other
// headers, because ReverseProxy sends a 101 without a call of WriteHeader. The only hop-by-hop
// headers that it keeps are Connection and Upgrade.
func (w *responseWriter) switchProtocols(h http.Header) {
	w.status = http.StatusSwitchingProtocols
	removeHopByHop(h)
	w.headers.removeReserved(h)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{string(config.WebSocket)}
	h[requestID] = []string{w.checked.id}
}

// keepUntyped marks the header of a response without Content-Type, so that net/http and package
// fastpath do not guess a type from the body. A guessed type would undo the upstream's
// X-Content-Type-Options: nosniff (RFC 9110 section 8.3 lets the recipient decide).
func keepUntyped(h http.Header) {
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil
	}
}

// writeInformational sends an informational response over HTTP/2. If the stream is reset, WriteHeader
// of the server returns while another goroutine still encodes the header map (golang/go#67940), so a
// later change of the map would be a data race. The server encodes a copy of the map only if it has
// to remove a Content-Length, so writeInformational adds a Content-Length. Other headers need no such
// care: the server always copies a final header, and the handler has returned before trailers are
// encoded.
func (w *responseWriter) writeInformational(status int) {
	h := w.Header()
	h["Content-Length"] = zeroLength
	w.conn.writer.WriteHeader(status)
	delete(h, "Content-Length")
}

var zeroLength = []string{"0"}

// Write writes b within one stall timeout.
func (w *responseWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.bodyWritten = true
	w.extendWriteDeadline(time.Now())
	n, err := w.conn.writer.Write(b)
	w.clientWriteFailed = w.clientWriteFailed || err != nil
	return n, err
}

// FlushError writes buffered bytes within one stall timeout. Over HTTP/2 it then clears the deadline,
// because a write deadline resets a stream even if there is nothing to write.
func (w *responseWriter) FlushError() error {
	w.extendWriteDeadline(time.Now())
	err := w.conn.control().Flush()
	w.clientWriteFailed = w.clientWriteFailed || err != nil
	if w.checked.request.ProtoMajor > 1 {
		w.conn.setWriteDeadline(time.Time{})
	}
	return err
}

// extendWriteDeadline sets the write deadline to one stall timeout after now.
func (w *responseWriter) extendWriteDeadline(now time.Time) {
	timeout := w.conn.stall
	if w.checked.request.ProtoMajor > 1 && w.checked.decision.Reason != access.Granted {
		timeout = min(timeout, refusalWriteTimeout)
	}
	w.conn.setWriteDeadline(now.Add(timeout))
}

// refusalWriteTimeout is how long an HTTP/2 client may take to grant a flow control window for a
// refusal of a few hundred bytes. Clients grant 64 KiB from the start. A client that grants less may
// intend to make the gate hold memory: one connection could have 128 unsent refusals.
const refusalWriteTimeout = 5 * time.Second

// extendForLastBytes extends the write deadline at the end of an HTTP/1 response, because the upstream may
// have paused for a long time before it sent the last bytes.
func (w *responseWriter) extendForLastBytes() {
	if w.status != 0 && w.checked.request.ProtoMajor == 1 && (!w.bodyWritten || w.conn.terminated() == nil) {
		w.extendWriteDeadline(time.Now())
	}
}

// Hijack takes the connection from net/http for a tunnel.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	t, buffers, err := w.conn.hijack()
	if err != nil {
		return nil, nil, err
	}
	return t, buffers, nil
}

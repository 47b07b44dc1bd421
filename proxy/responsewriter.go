package proxy

import (
	"net/http"
	"time"

	"github.com/tallygate/tallygate/access"
)

// Unwrap gives http.ResponseController access to the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader sends the header of an informational or final response. It removes identity headers
// that the upstream has set, because identity headers are for requests only (RFC 9440 section 2.2).
func (x *exchange) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols { // only an HTTP/2 upstream can send a 101 here; an HTTP/1.1 client would switch protocols
		x.unrequested101.Store(true)
		return
	}
	if status < 200 && (!x.request.ProtoAtLeast(1, 1) || x.decision.Preflight) { // RFC 9110 section 15.2; filterPreflight checks only final responses
		return
	}
	x.proxy.headers.removeReserved(x.Header())
	x.requestIDValue[0] = x.id
	x.Header()[requestID] = x.requestIDValue[:]
	x.setNonce(x.Header())
	if status >= 200 && x.status == 0 {
		x.status = status
		keepUntyped(x.Header())
		if x.bodyUnread() || x.ambiguous() || x.mustClose() || x.proxy.closing() {
			x.Header().Set("Connection", "close")
		}
	}
	if x.request.ProtoMajor == 1 {
		x.extendWriteDeadline(time.Now()) // net/http sends informational headers at once; the fast path may send a long final header
	}
	if status < 200 {
		removeHopByHop(x.Header())
		if x.request.ProtoMajor > 1 {
			x.writeInformational(status)
			return
		}
	}
	x.ResponseWriter.WriteHeader(status)
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
func (x *exchange) writeInformational(status int) {
	h := x.Header()
	h["Content-Length"] = zeroLength
	x.ResponseWriter.WriteHeader(status)
	delete(h, "Content-Length")
}

var zeroLength = []string{"0"}

// Write writes b within one stall timeout.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	x.bodyWritten = true
	x.extendWriteDeadline(time.Now())
	n, err := x.ResponseWriter.Write(b)
	x.clientWriteFailed = x.clientWriteFailed || err != nil
	return n, err
}

// FlushError writes buffered bytes within one stall timeout. Over HTTP/2 it then clears the deadline,
// because a write deadline resets a stream even if there is nothing to write.
func (x *exchange) FlushError() error {
	x.extendWriteDeadline(time.Now())
	err := x.control.Flush()
	x.clientWriteFailed = x.clientWriteFailed || err != nil
	if x.request.ProtoMajor > 1 {
		_ = x.control.SetWriteDeadline(time.Time{})
	}
	return err
}

// extendWriteDeadline sets the write deadline to one stall timeout after now. It ignores the error of
// a ResponseWriter without deadlines, as in a benchmark.
func (x *exchange) extendWriteDeadline(now time.Time) {
	timeout := x.proxy.stall
	if x.request.ProtoMajor > 1 && x.decision.Reason != access.Granted {
		timeout = min(timeout, refusalWriteTimeout)
	}
	_ = x.control.SetWriteDeadline(now.Add(timeout))
}

// refusalWriteTimeout is how long an HTTP/2 client may take to grant a flow control window for a
// refusal of a few hundred bytes. Clients grant 64 KiB from the start. A client that grants less may
// intend to make the gate hold memory: one connection could have 128 unsent refusals.
const refusalWriteTimeout = 5 * time.Second

// blockWrites makes all further writes to the client fail, until the handler returns. Over HTTP/2 it
// resets the stream. If the stream is a tunnel, it closes the tunnel. The exchange must have a
// recheck.
func (x *exchange) blockWrites() {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.handlerDone:
	case x.recheck.tunnel != nil:
		x.recheck.tunnel.closeNow()
	default:
		_ = x.control.SetWriteDeadline(time.Unix(1, 0))
	}
}

package proxy

import (
	"net/http"
	"time"

	"github.com/tallygate/tallygate/access"
)

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader sends a header, the final one or one of an informational answer. What an
// upstream says of identities stays inside: those fields are for requests only (RFC
// 9440 section 2.2).
func (x *exchange) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols { // from an upstream over HTTP/2; to an HTTP/1 client it would be one
		x.unrequested101.Store(true)
		return
	}
	if status < 200 && !x.request.ProtoAtLeast(1, 1) { // RFC 9110 section 15.2
		return
	}
	x.proxy.headers.removeReserved(x.Header())
	x.requestIDValue[0] = x.id
	x.Header()[requestID] = x.requestIDValue[:]
	if status >= 200 && x.status == 0 {
		x.status = status
		keepUntyped(x.Header())
		if x.bodyUnread() || x.ambiguous() || x.mustClose() || x.proxy.closing() {
			x.Header().Set("Connection", "close")
		}
	}
	if x.request.ProtoMajor == 1 {
		x.extendWriteDeadline(time.Now()) // an informational one is sent at once, and of a final one what the fast path has no room for
	}
	if status < 200 {
		dropHops(x.Header())
		if x.request.ProtoMajor > 1 {
			x.writeInformational(status)
			return
		}
	}
	x.ResponseWriter.WriteHeader(status)
}

// keepUntyped marks the header of an answer without Content-Type, so that net/http and
// package lane do not guess one from the body. A type that the upstream did not state would
// undo its X-Content-Type-Options: nosniff (RFC 9110 section 8.3 lets the recipient decide).
func keepUntyped(h http.Header) {
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil
	}
}

// informOver2 sends an informational answer over HTTP/2. When the stream is reset, the
// server's WriteHeader returns while another goroutine still encodes the fields
// (golang/go#67940), so what it encodes must be a copy that nobody else has. The server
// makes one only where it has to leave out a Content-Length, which has no place in an
// informational answer. Final headers and trailers need no such care: the server copies the
// former, and nobody has the map of the latter any more once the handler has returned.
func (x *exchange) writeInformational(status int) {
	h := x.Header()
	h["Content-Length"] = zeroLength
	x.ResponseWriter.WriteHeader(status)
	delete(h, "Content-Length")
}

var zeroLength = []string{"0"}

// Write gives the client another stall timeout to take b.
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

// FlushError gives the client another stall timeout to take what has been written. A
// stream may then be quiet for longer, where a deadline would end it even if nothing is to
// be written, as it does over HTTP/2.
func (x *exchange) FlushError() error {
	x.extendWriteDeadline(time.Now())
	err := x.control.Flush()
	x.clientWriteFailed = x.clientWriteFailed || err != nil
	if x.request.ProtoMajor > 1 {
		_ = x.control.SetWriteDeadline(time.Time{})
	}
	return err
}

// postpone moves the write deadline. A writer without deadlines, as in a
// benchmark, does without.
func (x *exchange) extendWriteDeadline(now time.Time) {
	patience := x.proxy.stall
	if x.request.ProtoMajor > 1 && x.decision.Reason != access.Granted {
		patience = min(patience, refusalWriteTimeout)
	}
	_ = x.control.SetWriteDeadline(now.Add(patience))
}

// refusalTime is how long a client over HTTP/2 may take to grant a window for a refusal, of a few
// hundred bytes. Clients grant 64 KiB from the start, unless they mean to hold memory: each
// connection could hold 128 refusals.
const refusalWriteTimeout = 5 * time.Second

// silence lets nothing more be written to the client, while the handler runs. Over HTTP/2
// that resets the stream.
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

package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/upstream"
)

// Inform sends an informational response of the upstream to the client. The upstream's client may call it
// on another goroutine while the handler waits for the response.
func (x *exchange) Inform(status int, fields []http1.Field) error {
	if status == http.StatusSwitchingProtocols { // over HTTP/2, where 101 does not exist (RFC 9113 section 8.6)
		return errUnrequestedSwitch
	}
	if x.Decision.Preflight || !x.Request.ProtoAtLeast(1, 1) { // RFC 9110 section 15.2
		return nil
	}
	x.response.sendInformational(status, x.responseFields(fields))
	return nil
}

// sendResponse sends the final response of the upstream to the client. If the response of the upstream
// breaks off, the response to the client breaks off too.
func (x *exchange) sendResponse(answer *upstream.Response) {
	defer func() { _ = answer.Body.Close() }()
	length := answer.Length
	if x.Request.Method == http.MethodHead || answer.Status == http.StatusNoContent || answer.Status == http.StatusNotModified {
		length = answer.Announced
	}
	x.response.sendHeader(answer.Status, x.responseFields(answer.Fields), length)
	if answer.Length == 0 {
		return
	}
	if err := x.sendBody(answer); err != nil {
		x.abort(err)
	}
	x.response.setTrailer(x.proxy.headers.removeReserved(answer.Trailer()))
}

// responseFields returns fields, which are fields of the upstream, as the client gets them. The gate
// removes identity fields, because they are for requests only (RFC 9440 section 2.2).
func (x *exchange) responseFields(fields []http1.Field) []http1.Field {
	return x.appendOwn(x.proxy.headers.removeReserved(fields))
}

// buffers has the buffers with which bodies of responses are copied.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// sendBody copies the body of the response. The client gets each part of a body without a known end at
// once. A buffer returns to the pool only if every write has succeeded: after a failed write, net/http's
// HTTP/2 server may still send from the buffer (golang/go#67940 describes the same for headers).
func (x *exchange) sendBody(answer *upstream.Response) error {
	atOnce := !answer.Arrived && (answer.Length < 0 || isEventStream(answer.Fields))
	if atOnce {
		if err := x.response.FlushError(); err != nil {
			return err
		}
	}
	// Over HTTP/2 a write deadline resets the stream even if there is nothing to write. FlushError clears
	// the deadline before the gate waits for the upstream again.
	atOnce = atOnce || x.Request.ProtoMajor > 1
	buffer := buffers.Get().(*[32 << 10]byte)
	for left := answer.Length; ; {
		n, err := answer.Body.Read(buffer[:])
		if n > 0 {
			if _, failed := x.response.Write(buffer[:n]); failed != nil {
				return failed
			}
			left -= int64(n)
		}
		if err == io.EOF { //nolint:errorlint // an EOF within another error is not the end of the body
			buffers.Put(buffer)
			return nil
		}
		if err == nil && n > 0 && atOnce && left != 0 {
			err = x.response.FlushError()
		}
		if err != nil {
			return err
		}
	}
}

// isEventStream reports whether a response with these fields is a stream of server-sent events.
func isEventStream(fields []http1.Field) bool {
	for value := range http1.Values(fields, "Content-Type") {
		kind, _, _ := strings.Cut(value, ";")
		return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
	}
	return false
}

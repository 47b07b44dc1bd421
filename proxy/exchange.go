package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
)

// An exchange is one request on its way through the gate, and the writer of its
// answer. It belongs to one goroutine.
type exchange struct {
	http.ResponseWriter
	control     http.ResponseController
	proxy       *Proxy
	request     *http.Request
	id          string // names the request in the answer, the log and at the upstream
	started     time.Time
	decided     time.Time
	decision    access.Decision
	shown       string              // the thumbprint on the connection, once it was asked for
	certificate *access.Certificate // nil until it has passed
	assertion   string              // for the upstream; "" where the route asks for none
	detail      error               // of failure, for the log
	status      int                 // sent; 0 before
	failure     failure             // what went wrong after a grant
	upgrade     bool                // asked for
	paused      bool                // its body may pause: it is gRPC
	written     bool                // some of the answer's body
	deaf        bool                // the client no longer takes the answer
	reviewed    *review             // nil: no stream, so far
	held        *atomic.Int64       // counts it, among its partner's; nil: it has no place
	placed      *places             // where it has one at the upstream; nil: it has none

	// Room that would be taken piece by piece otherwise.
	reverse httputil.ReverseProxy
	begun   begunBody         // what the upstream gets
	own     [ownFields]string // values of the fields that the upstream gets
	ids     [1]string         // of the field in the answer

	// The transport may go on reading the client's body after the handler has
	// returned, from a goroutine of its own. This is what that touches.
	bodyRead  atomic.Bool           // the body has been read to its end
	switched  atomic.Bool           // the upstream said 101 where that is none (RFC 9113 section 8.6)
	bodyFault atomic.Pointer[error] // why the body ended early
	reading   sync.Mutex            // held while the body is being read
	mu        sync.Mutex
	over      bool // the handler returns: the connection's deadlines are net/http's again
}

func (p *Proxy) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{
		ResponseWriter: w,
		control:        *http.NewResponseController(w),
		proxy:          p,
		request:        r,
		id:             newID(),
		started:        time.Now(),
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// The deadline of the connection's last answer must not cut short what net/http says
		// when the body is read, 100 Continue. All else is written with a deadline of its own.
		x.postpone(x.started)
	}
	return x
}

// newID returns 128 bits that no other request has. They are a name and no secret, so
// chance is enough.
func newID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // not a secret
	binary.BigEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // not a secret
	return hex.EncodeToString(b[:])
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader sends a header, the final one or one of an informational answer. What an
// upstream says of identities stays inside: those fields are for requests only (RFC
// 9440 section 2.2).
func (x *exchange) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols { // from an upstream over HTTP/2; to an HTTP/1 client it would be one
		x.switched.Store(true)
		return
	}
	if status < 200 && !x.request.ProtoAtLeast(1, 1) { // RFC 9110 section 15.2
		return
	}
	x.proxy.fields.clean(x.Header())
	x.ids[0] = x.id
	x.Header()[requestID] = x.ids[:]
	if status >= 200 && x.status == 0 {
		x.status = status
		keepUntyped(x.Header())
		if x.unread() || x.ambiguous() || x.interrupted() || x.proxy.parting() {
			x.Header().Set("Connection", "close")
		}
	}
	if x.request.ProtoMajor == 1 {
		x.postpone(time.Now()) // an informational one is sent at once, and of a final one what the fast path has no room for
	}
	if status < 200 {
		dropHops(x.Header())
		if x.request.ProtoMajor > 1 {
			x.informOver2(status)
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
func (x *exchange) informOver2(status int) {
	h := x.Header()
	h["Content-Length"] = noLength
	x.ResponseWriter.WriteHeader(status)
	delete(h, "Content-Length")
}

var noLength = []string{"0"}

// Write gives the client another stall timeout to take b.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	x.written = true
	x.postpone(time.Now())
	n, err := x.ResponseWriter.Write(b)
	x.deaf = x.deaf || err != nil
	return n, err
}

// FlushError gives the client another stall timeout to take what has been written. A
// stream may then be quiet for longer, where a deadline would end it even if nothing is to
// be written, as it does over HTTP/2.
func (x *exchange) FlushError() error {
	x.postpone(time.Now())
	err := x.control.Flush()
	x.deaf = x.deaf || err != nil
	if x.request.ProtoMajor > 1 {
		_ = x.control.SetWriteDeadline(time.Time{})
	}
	return err
}

// postpone moves the write deadline. A writer without deadlines, as in a
// benchmark, does without.
func (x *exchange) postpone(now time.Time) {
	patience := x.proxy.stall
	if x.request.ProtoMajor > 1 && x.decision.Reason != access.Granted {
		patience = min(patience, refusalTime)
	}
	_ = x.control.SetWriteDeadline(now.Add(patience))
}

// refusalTime is how long a client over HTTP/2 may take to grant a window for a refusal, of a few
// hundred bytes. Clients grant 64 KiB from the start, unless they mean to hold memory: each
// connection could hold 128 refusals.
const refusalTime = 5 * time.Second

// interrupt ends the reading of the body, which the transport waits for even where its
// request is cancelled. No other begins once x has been ended.
func (x *exchange) interrupt() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over && !x.bodyRead.Load() {
		_ = x.control.SetReadDeadline(time.Unix(1, 0))
	}
}

// interrupted reports whether the connection may have been, since x has been ended. Where
// the body came to its end at that moment, it was not the body's reading that was
// interrupted but the watch that net/http then keeps on the client, to which that has gone,
// and so have all who ask on this connection after him.
func (x *exchange) interrupted() bool { return x.request.ProtoMajor == 1 && x.ended() != nil }

// silence lets nothing more be written to the client, while the handler runs. Over HTTP/2
// that resets the stream.
func (x *exchange) silence() {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.over:
	case x.reviewed.tunnel != nil:
		x.reviewed.tunnel.sever()
	default:
		_ = x.control.SetWriteDeadline(time.Unix(1, 0))
	}
}

// readBy sets the deadline for the next bytes of the body and reports whether the handler still
// runs. Once it has returned, the connection serves another request or is closed. A gRPC stream
// has no such deadline: it may be quiet for as long as the decision about it holds, and net/http
// notices by a ping that its client is gone.
func (x *exchange) readBy(deadline time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.ended() != nil {
		return false
	}
	if !x.paused {
		_ = x.control.SetReadDeadline(deadline)
	}
	return true
}

// end gives the connection back to net/http. Of an HTTP/1 body that nobody has read to
// its end, nothing more is waited for: not by the transport, which may still be reading,
// and not by the server, which would skip what is left to find the next request. A read
// that is under way has to return first: net/http would lift the deadline to end it.
func (x *exchange) end() {
	defer x.leave()
	if r := x.reviewed; r != nil {
		defer r.streams.running.Add(-1)
	}
	if x.status != 0 && x.request.ProtoMajor == 1 && (!x.written || x.ended() == nil) {
		x.postpone(time.Now()) // the header has yet to be sent, or the end: the upstream may have been quiet for long before it
	}
	unread := x.finish()
	if unread {
		x.reading.Lock()
		defer x.reading.Unlock()
	}
}

// finish declares the exchange over. From then on no read of the body begins, and one
// that is under way returns at once where it reports true.
func (x *exchange) finish() (unread bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	unread = x.unread()
	if unread {
		_ = x.control.SetReadDeadline(time.Unix(1, 0))
		x.linger()
	}
	return unread
}

// linger makes net/http wait half a second between the end of the answer and the end of
// the connection. A connection that is closed while bytes arrive is reset, and a reset
// takes the answer away from a client that has not read it yet, the 413 above all. Only
// of a body that was too long does net/http know that it must wait.
func (x *exchange) linger() {
	var one [1]byte
	_, _ = http.MaxBytesReader(x.ResponseWriter, io.NopCloser(zeros{}), 0).Read(one[:])
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// unread reports whether bytes of an HTTP/1 body are still to come or to be read. The
// connection is then of no further use: where one message ends and the next begins must
// never be a matter of timing (RFC 9112 section 9.3).
func (x *exchange) unread() bool {
	r := x.request
	return r.ProtoMajor == 1 && r.Body != nil && r.Body != http.NoBody && !x.bodyRead.Load()
}

// ambiguous reports whether a front proxy, whose connection carries the requests of many
// clients, may see the end of this request elsewhere: it is chunked, or of HTTP/1.0, which has
// no chunks and whose connections do not persist everywhere. Malformed requests do not come
// this far; the connection ends after these well-formed ones too (RFC 9112 sections 6.1 and
// 9.3), because what followed could carry a certificate header of its sender's choosing.
func (x *exchange) ambiguous() bool {
	r := x.request
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) && x.proxy.steps.Trust.BehindProxy()
}

// rescue turns a panic into a refusal where nothing has been sent yet.
// http.ErrAbortHandler passes: it is how ReverseProxy says
// that an answer broke off.
func (x *exchange) rescue(log *slog.Logger) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does: the value itself is the signal
		if x.failure == none && x.ended() == nil {
			x.failure = brokenOff(x)
		}
		panic(v)
	}
	logPanic(x.request.Context(), log, x.id, v)
	if x.status != 0 {
		x.failure = upstreamReset
		panic(http.ErrAbortHandler)
	}
	x.decision.Reason = access.Undecided
	answer(x, x.decision, x.id, false)
}

// A stallingBody gives the client another stall timeout for each part of a body,
// and no more.
type stallingBody struct {
	io.ReadCloser
	exchange *exchange
}

func (b *stallingBody) Read(p []byte) (int, error) {
	x := b.exchange
	x.reading.Lock()
	defer x.reading.Unlock()
	if !x.readBy(time.Now().Add(x.proxy.stall)) {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if err == io.EOF {
			x.bodyRead.Store(true)
		} else {
			x.bodyFault.Store(&err)
		}
		// The server goes on reading to notice that the client leaves; a deadline
		// left behind would look like that.
		x.readBy(time.Time{})
	}
	return n, err
}

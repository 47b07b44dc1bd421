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
	control           http.ResponseController
	proxy             *Proxy
	request           *http.Request
	id                string // names the request in the answer, the log and at the upstream
	started           time.Time
	decided           time.Time
	decision          access.Decision
	peerThumbprint    string              // the thumbprint on the connection, once it was asked for
	certificate       *access.Certificate // nil until it has passed
	assertion         string              // for the upstream; "" where the route asks for none
	detail            error               // of failure, for the log
	status            int                 // sent; 0 before
	failure           failure             // what went wrong after a grant
	upgrade           bool                // asked for
	bodyMayPause      bool                // its body may pause: it is gRPC
	bodyWritten       bool                // some of the answer's body
	clientWriteFailed bool                // the client no longer takes the answer
	recheck           *recheck            // nil: no stream, so far
	partnerInFlight   *atomic.Int64       // counts it, among its partner's; nil: it has no place
	apiLimits         *apiLimits          // where it has one at the upstream; nil: it has none

	// Room that would be taken piece by piece otherwise.
	reverse        httputil.ReverseProxy
	bufferedBody   bufferedBody               // what the upstream gets
	headerValues   [maxIdentityHeaders]string // values of the fields that the upstream gets
	requestIDValue [1]string                  // of the field in the answer

	// The transport may go on reading the client's body after the handler has
	// returned, from a goroutine of its own. This is what that touches.
	bodyRead       atomic.Bool           // the body has been read to its end
	unrequested101 atomic.Bool           // the upstream said 101 where that is none (RFC 9113 section 8.6)
	bodyFault      atomic.Pointer[error] // why the body ended early
	bodyReadMu     sync.Mutex            // held while the body is being read
	mu             sync.Mutex
	handlerDone    bool // the handler returns: the connection's deadlines are net/http's again
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
		x.extendWriteDeadline(x.started)
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

// end gives the connection back to net/http. Of an HTTP/1 body that nobody has read to
// its end, nothing more is waited for: not by the transport, which may still be reading,
// and not by the server, which would skip what is left to find the next request. A read
// that is under way has to return first: net/http would lift the deadline to end it.
func (x *exchange) end() {
	defer x.release()
	if r := x.recheck; r != nil {
		defer r.streams.running.Add(-1)
	}
	if x.status != 0 && x.request.ProtoMajor == 1 && (!x.bodyWritten || x.terminated() == nil) {
		x.extendWriteDeadline(time.Now()) // the header has yet to be sent, or the end: the upstream may have been quiet for long before it
	}
	unread := x.finish()
	if unread {
		x.bodyReadMu.Lock()
		defer x.bodyReadMu.Unlock()
	}
}

// finish declares the exchange over. From then on no read of the body begins, and one
// that is under way returns at once where it reports true.
func (x *exchange) finish() (unread bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.handlerDone = true
	unread = x.bodyUnread()
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

// rescue turns a panic into a refusal where nothing has been sent yet.
// http.ErrAbortHandler passes: it is how ReverseProxy says
// that an answer broke off.
func (x *exchange) recoverPanic(log *slog.Logger) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does: the value itself is the signal
		if x.failure == none && x.terminated() == nil {
			x.failure = classifyAbort(x)
		}
		panic(v)
	}
	logPanic(x.request.Context(), log, x.id, v)
	if x.status != 0 {
		x.failure = upstreamReset
		panic(http.ErrAbortHandler)
	}
	x.decision.Reason = access.Undecided
	writeRefusal(x, x.decision, x.id, false)
}

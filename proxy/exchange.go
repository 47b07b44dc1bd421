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

// An exchange is a request in progress and the http.ResponseWriter of its response. Only the
// goroutine of the handler uses an exchange, except for the fields at the end.
type exchange struct {
	checkedRequest
	http.ResponseWriter
	slots             slots
	control           http.ResponseController
	proxy             *Proxy
	started           time.Time
	decided           time.Time
	detail            error    // the error behind failure, for the log
	status            int      // the status of the response; 0 before its header is sent
	failure           failure  // what failed after the request was granted
	bodyMayPause      bool     // the request is a gRPC stream
	bodyWritten       bool     // at least one byte of the response body has been written
	clientWriteFailed bool     // a write of the response to the client has failed
	recheck           *recheck // nil until startRecheck

	// The fields below are part of the exchange, so that they need no allocation of their own.
	reverse        httputil.ReverseProxy
	bufferedBody   bufferedBody               // the request body for the upstream
	headerValues   [maxIdentityHeaders]string // the values of the headers of setIdentityHeaders
	requestIDValue [1]string                  // the value of the response header X-Request-Id

	// The transport may read the request body on its own goroutine, even after the handler has
	// returned. This goroutine and the recheck use the fields below.
	bodyRead       atomic.Bool           // the request body has been read to its end
	unrequested101 atomic.Bool           // the upstream sent a 101 over HTTP/2, where 101 does not exist (RFC 9113 section 8.6)
	bodyFault      atomic.Pointer[error] // the error with which reading the request body ended
	bodyReadMu     sync.Mutex            // held during a read of the request body
	mu             sync.Mutex
	handlerDone    bool // the handler is done, and from now on net/http sets the deadlines. Guarded by mu.
}

func (p *Proxy) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{
		checkedRequest: checkedRequest{steps: &p.steps, request: r, id: newID()},
		ResponseWriter: w,
		control:        *http.NewResponseController(w),
		proxy:          p,
		started:        time.Now(),
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// net/http writes 100 Continue when the body is read. The write deadline of the previous
		// response on the connection must not make this write fail. All other writes set a deadline
		// of their own.
		x.extendWriteDeadline(x.started)
	}
	return x
}

// newID returns 128 random bits in hex. The id is not a secret, so math/rand/v2 is enough.
func newID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // not a secret
	binary.BigEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // not a secret
	return hex.EncodeToString(b[:])
}

// end returns the connection to net/http and releases the slots of x. If an HTTP/1 body has not been
// read to its end, end makes further reads fail: the transport may still read the body, the server
// would skip the rest of the body to find the next request, and both reads could wait for the client.
// end waits until a read in progress has returned, because net/http then clears the deadline that
// makes the read return.
func (x *exchange) end() {
	defer func() { x.slots.release(x.decision.Partner) }()
	if r := x.recheck; r != nil {
		defer r.streams.running.Add(-1)
	}
	if x.status != 0 && x.request.ProtoMajor == 1 && (!x.bodyWritten || x.terminated() == nil) {
		x.extendWriteDeadline(time.Now()) // for the last bytes, because the upstream may have paused for a long time before it sent them
	}
	unread := x.finish()
	if unread {
		x.bodyReadMu.Lock()
		defer x.bodyReadMu.Unlock()
	}
}

// finish sets handlerDone, after which no read of the body begins. It reports whether part of the
// body is unread. If so, a read in progress returns at once.
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

// linger makes net/http wait half a second between the end of the response and the close of the
// connection. If a connection is closed while bytes arrive, it is reset, and the client loses a
// response that it has not read before the reset, such as a 413. net/http waits only after a
// MaxBytesReader has found a body that is too long, so linger makes a MaxBytesReader find such a
// body.
func (x *exchange) linger() {
	var one [1]byte
	_, _ = http.MaxBytesReader(x.ResponseWriter, io.NopCloser(zeros{}), 0).Read(one[:])
}

// zeros is a body without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// recoverPanic turns a panic into a refusal if no response has begun, and aborts the response
// otherwise. With http.ErrAbortHandler, with which ReverseProxy aborts a response, it panics again.
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
	writeRefusal(x, x.decision, false)
}

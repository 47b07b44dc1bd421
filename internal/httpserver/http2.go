package httpserver

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/buildinfo"
)

const (
	// fieldOverhead is the size of a header field beside its name and value (RFC 9113 section
	// 6.5.2).
	fieldOverhead = 32
	// headerSlack is added to header_bytes, which counts as HTTP/1.1 does, without fieldOverhead.
	// net/http adds the overhead of ten fields too.
	headerSlack = 10 * fieldOverhead
	// maxTrailers bounds the trailers that a request may announce. The gate forwards no trailers.
	// Real clients announce a few; a list of thousands is an attack on memory.
	maxTrailers = 64
	// RefusalTimeout bounds the sending of a response that the gate or x/net makes before a handler
	// has the request. A client that grants no window (RFC 9113 section 5.2) never accepts the
	// response, and the request stays in memory until the timeout.
	RefusalTimeout = 5 * time.Second
	// maxEndTimeout bounds the wait for the end of an empty body. Clients send the end with the
	// header; the time is for a lost packet.
	maxEndTimeout = 2 * time.Second
)

// NewHTTP2 returns the HTTP/2 server of a TLS listener. It shares handler and timeouts with over1,
// the listener's HTTP/1.1 server. short reports whether memory is short.
//
// HTTP/2 comes from golang.org/x/net in the version that go.mod names, not from the net/http of the
// Go release that builds the program: in Go 1.26.8 and older any client can end the process (see
// [buildinfo.Outdated]). Built with Go 1.27 or newer, x/net uses net/http again;
// [buildinfo.HTTP2EncoderTableSize] allows for that.
func NewHTTP2(over1 *http.Server, limits config.Limits, short func() bool) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	s := &http.Server{
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:      128,
			MaxEncoderHeaderTableSize: buildinfo.HTTP2EncoderTableSize(runtime.Version()),
			// The minimum of RFC 9113 section 4.2. By default a peer can make each connection
			// allocate 1 MiB by announcing a frame of that size.
			MaxReadFrameSize: 16 << 10,
			// Request bodies wait here while an upstream is slow. By default a client can fill 1
			// MiB on each connection, far more than the rest of a connection takes. One window
			// passes in each round trip: 256 KiB / 50 ms is about 5 MB/s.
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     256 << 10,
			WriteByteTimeout:              limits.StallTimeout,
			SendPingTimeout:               limits.IdleTimeout,
			PingTimeout:                   limits.HeaderTimeout,
		},
		MaxHeaderBytes:    readableHeader(int(limits.HeaderBytes)),
		ReadHeaderTimeout: over1.ReadHeaderTimeout,
		ReadTimeout:       over1.ReadTimeout,
		WriteTimeout:      RefusalTimeout, // holds until the handler has the request, see wellFormedHandler
		IdleTimeout:       over1.IdleTimeout,
		ConnContext:       over1.ConnContext,
		ErrorLog:          over1.ErrorLog,
		// Otherwise net/http answers "OPTIONS *" before the handler sees the request.
		DisableGeneralOptionsHandler: true,
	}
	w := wellFormedHandler{
		handler: over1.Handler, limit: int(limits.HeaderBytes), short: short,
		writeTimeout: over1.WriteTimeout, endTimeout: min(limits.HeaderTimeout, maxEndTimeout),
	}
	s.Handler = &w
	if err := http2.ConfigureServer(s, new(http2.Server)); err != nil { //nolint:staticcheck // deprecated in favour of net/http, which depends on the Go release
		panic(err) // errors come only from TLS settings, and s has none
	}
	return s
}

// readableHeader returns the size in bytes up to which a header list is read. A larger field ends
// the connection, because its header compression state is lost. Header lists up to twice limit, but
// at most 64 KiB more, are read and answered with 431.
func readableHeader(limit int) int { return limit + min(limit, 64<<10) }

// A wellFormedHandler passes on only well-formed requests over HTTP/2, which x/net does not ensure:
// the header list has at most limit bytes, and content-length is a number and agrees with the body
// (RFC 9113 section 8.1.1).
type wellFormedHandler struct {
	handler      http.Handler
	limit        int           // the bound of a header list, in bytes
	writeTimeout time.Duration // bounds each response of the handler; 0: the handler sets deadlines
	endTimeout   time.Duration // bounds the wait for the end of an empty body
	short        func() bool   // reports whether memory is short
}

func (f *wellFormedHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var deadline time.Time
	if f.writeTimeout > 0 {
		deadline = time.Now().Add(f.writeTimeout)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
	// x/net keeps r until the client grants a window for the response.
	defer forget(r)
	switch {
	case len(r.Trailer) > maxTrailers:
		// No response: the handler goroutine of a client that does not read would block while
		// writing, and keep the list.
		panic(http.ErrAbortHandler)
	case headerSize(r) > f.limit+headerSlack:
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	case !contentLengthAgrees(r):
		w.WriteHeader(http.StatusBadRequest)
	case !declaresNone(r):
		f.handler.ServeHTTP(w, r)
	case f.short(): // comes before endsEmpty waits, because the request is not counted yet
		w.WriteHeader(http.StatusServiceUnavailable)
	case !endsEmpty(w, r, f.endTimeout):
		w.WriteHeader(http.StatusBadRequest)
	default:
		f.handler.ServeHTTP(w, r)
	}
}

// forget clears the parts of a handled request that its sender can make large. x/net only asks
// whether the method was HEAD.
func forget(r *http.Request) {
	r.Header, r.Trailer, r.URL, r.Host, r.RequestURI = nil, nil, nil, "", ""
	if r.Method != http.MethodHead {
		r.Method = ""
	}
}

// headerSize returns the size of the header list of r in bytes (RFC 9113 section 6.5.2).
func headerSize(r *http.Request) int {
	n := 4*fieldOverhead + len(":method:scheme:authority:pathhttps") + len(r.Method) + len(r.Host) + len(r.RequestURI)
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value) + fieldOverhead
		}
	}
	return n
}

// contentLengthAgrees reports whether the content-length of r, if present, is a single number that
// x/net has read as such. x/net reads an invalid number as 0 and uses the first of several numbers.
// It compares the number with the body while the body is read.
func contentLengthAgrees(r *http.Request) bool {
	values, declared := r.Header["Content-Length"]
	if !declared {
		return true
	}
	if len(values) != 1 {
		return false
	}
	length, err := strconv.ParseUint(values[0], 10, 63)   // accepts digits only
	return err == nil && int64(length) == r.ContentLength // ContentLength is 0 if the header ends the stream
}

// declaresNone reports whether r declares an empty body. Handlers do not read such a body, so bytes
// in it would go unnoticed.
func declaresNone(r *http.Request) bool {
	return r.ContentLength == 0 && r.Header["Content-Length"] != nil
}

// endsEmpty reports whether the body of r ends within timeout without a byte.
func endsEmpty(w http.ResponseWriter, r *http.Request, timeout time.Duration) bool {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(timeout))
	var one [1]byte
	n, err := r.Body.Read(one[:])
	return n == 0 && errors.Is(err, io.EOF)
}

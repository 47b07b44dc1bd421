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
	// fieldOverhead is what each field of a header list counts beside its name and value
	// (RFC 9113 section 6.5.2).
	fieldOverhead = 32
	// headerSlack is added to header_bytes, which counts as HTTP/1.1 does, without that
	// overhead. net/http, too, adds the overhead of ten fields.
	headerSlack = 10 * fieldOverhead
	// mostTrailers is how many trailers a request may announce. None of them is forwarded;
	// clients in use announce a few. A list of thousands is an attack on memory.
	mostTrailers = 64
	// RefusalTimeout is how long a client may take to accept an answer that x/net makes by itself. A
	// client that grants the stream no window (RFC 9113 section 5.2) never does, and the request is
	// in memory until then.
	RefusalTimeout = 5 * time.Second
	// mostEndTime is how long a body of no bytes may take to end. Clients send the end with the
	// header; the time is for a packet that is lost.
	mostEndTime = 2 * time.Second
)

// NewHTTP2 returns the server of a TLS listener's connections over HTTP/2. over1 is
// the server of those over HTTP/1.1, whose handler and timeouts it shares. short reports whether
// memory is.
//
// HTTP/2 comes from golang.org/x/net, at a version that go.mod names, not from the
// net/http of the Go release that somebody happens to build with: in Go 1.26.8 and older
// any client can end the process (see [soundSince]). Built with Go 1.27 or newer, x/net
// delegates to net/http again, which [encoderTable] takes into account.
func NewHTTP2(over1 *http.Server, limits config.Limits, short func() bool) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	s := &http.Server{
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:      128,
			MaxEncoderHeaderTableSize: buildinfo.HTTP2EncoderTableSize(runtime.Version()),
			// The least that RFC 9113 section 4.2 allows. By default a peer can make us
			// set aside 1 MiB by announcing a frame of that size, on each connection.
			MaxReadFrameSize: 16 << 10,
			// Request bodies wait here while an upstream is slow to take them. By default
			// a client can fill 1 MiB on each connection, beside which the rest of a
			// connection is nothing. A window passes once per round trip: 256 KiB / 50 ms
			// is some 5 MB a second.
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     256 << 10,
			WriteByteTimeout:              limits.StallTimeout,
			SendPingTimeout:               limits.IdleTimeout,
			PingTimeout:                   limits.HeaderTimeout,
		},
		MaxHeaderBytes:    readableHeader(int(limits.HeaderBytes)),
		ReadHeaderTimeout: over1.ReadHeaderTimeout,
		ReadTimeout:       over1.ReadTimeout,
		WriteTimeout:      RefusalTimeout, // until a handler has the request: see wellFormed
		IdleTimeout:       over1.IdleTimeout,
		ConnContext:       over1.ConnContext,
		ErrorLog:          over1.ErrorLog,
		// Otherwise net/http answers "OPTIONS *" before the handler sees it.
		DisableGeneralOptionsHandler: true,
	}
	w := wellFormedHandler{
		handler: over1.Handler, limit: int(limits.HeaderBytes), short: short,
		writeTimeout: over1.WriteTimeout, endTimeout: min(limits.HeaderTimeout, mostEndTime),
	}
	s.Handler = &w
	if err := http2.ConfigureServer(s, new(http2.Server)); err != nil { //nolint:staticcheck // deprecated in favour of net/http, which depends on the Go release
		panic(err) // it objects to TLS settings alone, and s has none
	}
	return s
}

// readableHeader returns how long a header list may be, in bytes, to be read at all. A
// connection whose peer sends a longer field ends, since its header compression is lost. Up
// to twice limit, and 64 KiB more at most, the header is read and answered with 431.
func readableHeader(limit int) int { return limit + min(limit, 64<<10) }

// wellFormedHandler passes on to a handler the requests over HTTP/2 that are well-formed, which x/net
// does not ensure: a header list of limit bytes at most, and a content-length that is a number
// and agrees with the body (RFC 9113 section 8.1.1). Others reach no handler.
type wellFormedHandler struct {
	handler      http.Handler
	limit        int           // of a header list, in bytes
	writeTimeout time.Duration // of the handler's answers; 0: the handler sets it
	endTimeout   time.Duration // for the end of a body of no bytes
	short        func() bool   // whether memory is
}

func (f *wellFormedHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var deadline time.Time
	if f.writeTimeout > 0 {
		deadline = time.Now().Add(f.writeTimeout)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
	// The answer's body waits in x/net until the client grants a window, and r with it.
	defer forget(r)
	switch {
	case len(r.Trailer) > mostTrailers:
		// Without an answer: the handler of a client that does not read would wait
		// to write one, and hold the list meanwhile.
		panic(http.ErrAbortHandler)
	case headerSize(r) > f.limit+headerSlack:
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	case !contentLengthAgrees(r):
		w.WriteHeader(http.StatusBadRequest)
	case !declaresNone(r):
		f.handler.ServeHTTP(w, r)
	case f.short(): // before the wait for the end, in which the request is counted nowhere
		w.WriteHeader(http.StatusServiceUnavailable)
	case !endsEmpty(w, r, f.endTimeout):
		w.WriteHeader(http.StatusBadRequest)
	default:
		f.handler.ServeHTTP(w, r)
	}
}

// forget drops from r, which was handled, what its sender can make large. x/net asks whether the
// method was HEAD, and for nothing else.
func forget(r *http.Request) {
	r.Header, r.Trailer, r.URL, r.Host, r.RequestURI = nil, nil, nil, "", ""
	if r.Method != http.MethodHead {
		r.Method = ""
	}
}

// headerSize returns the size of the header list of r in bytes, by RFC 9113 section 6.5.2.
func headerSize(r *http.Request) int {
	n := 4*fieldOverhead + len(":method:scheme:authority:pathhttps") + len(r.Method) + len(r.Host) + len(r.RequestURI)
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value) + fieldOverhead
		}
	}
	return n
}

// contentLengthAgrees reports whether the content-length of r, if it has one, is one number. x/net takes a
// value that is no number for 0, and the first of several; it compares those that are left with
// the body while that is read.
func contentLengthAgrees(r *http.Request) bool {
	values, declared := r.Header["Content-Length"]
	if !declared {
		return true
	}
	if len(values) != 1 {
		return false
	}
	length, err := strconv.ParseUint(values[0], 10, 63)   // takes digits alone
	return err == nil && int64(length) == r.ContentLength // which is 0 where the header ends the stream
}

// declaresNone reports whether r, which agrees, declares a body of no bytes. What follows would
// be found too late, for the handler expects none and does not read it.
func declaresNone(r *http.Request) bool {
	return r.ContentLength == 0 && r.Header["Content-Length"] != nil
}

// endsEmpty reports whether the body of r ends within patience, without a byte.
func endsEmpty(w http.ResponseWriter, r *http.Request, patience time.Duration) bool {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(patience))
	var one [1]byte
	n, err := r.Body.Read(one[:])
	return n == 0 && errors.Is(err, io.EOF)
}

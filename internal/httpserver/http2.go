package httpserver

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"github.com/tallygate/tallygate/internal/buildinfo"
	"github.com/tallygate/tallygate/mtls"
)

const (
	// fieldOverhead is the number that RFC 9113 section 6.5.2 adds to the bytes of a field's name and
	// value.
	fieldOverhead = 32
	// headerSlack is added to the setting header_bytes, because the setting counts a header as HTTP/1.1
	// does, without fieldOverhead. net/http adds the overhead of ten fields too.
	headerSlack = 10 * fieldOverhead
	// maxTrailers bounds the trailers that a request may announce. The gate forwards no trailers.
	// Real clients announce a few; a list of thousands is an attack on memory.
	maxTrailers = 64
	// RefusalTimeout bounds the sending of a response that the gate or x/net makes before the request
	// reaches a handler. If a client grants no window (RFC 9113 section 5.2), the response cannot be
	// sent, and the request stays in memory until the timeout.
	RefusalTimeout = 5 * time.Second
	// maxEndTimeout bounds the wait for the end of an empty body. Clients send the end together with
	// the header, so only a lost packet causes a longer wait.
	maxEndTimeout = 2 * time.Second
)

// newHTTP2 returns the HTTP/2 server of a TLS listener.
//
// The HTTP/2 code is that of golang.org/x/net in the version that go.mod names, and not that of
// net/http, because with Go 1.26.8 and older any client can end a process that uses net/http's code
// (see [buildinfo.Outdated]). If the program is built with Go 1.27 or newer, x/net uses net/http's
// code; [buildinfo.HTTP2EncoderTableSize] makes this safe.
func (s *Server) newHTTP2() *http.Server {
	limits := s.Limits
	var readTimeout, writeTimeout time.Duration
	if !s.HandlerBoundsTime {
		readTimeout, writeTimeout = limits.HeaderTimeout, limits.StallTimeout
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	server := &http.Server{
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:      128,
			MaxEncoderHeaderTableSize: buildinfo.HTTP2EncoderTableSize(runtime.Version()),
			// The minimum of RFC 9113 section 4.2. By default a peer can make each connection
			// allocate 1 MiB by announcing a frame of that size.
			MaxReadFrameSize: 16 << 10,
			// Request bodies wait in this buffer while an upstream is slow. By default a client could
			// fill 1 MiB on each connection, far more than the rest of a connection takes. One window
			// passes in each round trip: 256 KiB / 50 ms is about 5 MB/s.
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     256 << 10,
			WriteByteTimeout:              limits.StallTimeout,
			SendPingTimeout:               limits.IdleTimeout,
			PingTimeout:                   limits.HeaderTimeout,
		},
		MaxHeaderBytes:    readableHeader(int(limits.HeaderBytes)),
		ReadHeaderTimeout: limits.HeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      RefusalTimeout, // in force until the handler has the request, see wellFormedHandler
		IdleTimeout:       limits.IdleTimeout,
		ConnContext:       mtls.ConnContext,
		ConnState:         s.http2State,
		ErrorLog:          s.ErrorLog,
		// Without this option, net/http answers "OPTIONS *" before the handler sees the request.
		DisableGeneralOptionsHandler: true,
	}
	w := wellFormedHandler{
		handler: s.Handler, limit: int(limits.HeaderBytes), short: s.LowMemory,
		writeTimeout: writeTimeout, endTimeout: min(limits.HeaderTimeout, maxEndTimeout),
	}
	server.Handler = &w
	if err := http2.ConfigureServer(server, new(http2.Server)); err != nil { //nolint:staticcheck // deprecated in favour of the HTTP/2 of net/http, which depends on the Go release
		panic(err) // ConfigureServer fails only because of TLS settings, and server has no TLS settings
	}
	return server
}

// An http2Listener delivers the connections that use HTTP/2.
type http2Listener struct {
	net.Listener
	server *Server
	failed <-chan struct{} // closed when the listener has failed
}

// Accept returns the next connection.
func (l *http2Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.server.http2Conns:
		return c, nil
	case <-l.server.closed:
	case <-l.failed:
	}
	return nil, net.ErrClosed
}

// Close does nothing: Shutdown closes the listener of the server.
func (l *http2Listener) Close() error { return nil }

// serveHTTP2 gives a connection to the HTTP/2 server.
func (s *Server) serveHTTP2(c *conn, secure *tls.Conn) {
	s.multiplexed.Store(net.Conn(secure), &http2Conn{leaf: c.leaf.Load()})
	s.remove(c)
	_ = secure.SetDeadline(time.Time{})
	select {
	case s.http2Conns <- secure:
	case <-s.closed:
		s.multiplexed.Delete(net.Conn(secure))
		_ = secure.Close()
	}
}

// readableHeader returns the size in bytes up to which x/net reads a header list: twice limit, but at
// most 64 KiB more than limit. The gate answers a header list between limit and this size with 431. A
// larger field ends the connection, because the header compression state of the connection is lost.
func readableHeader(limit int) int { return limit + min(limit, 64<<10) }

// A wellFormedHandler passes on only well-formed requests over HTTP/2, which x/net does not ensure:
// the header list has at most limit bytes, and content-length is a number and agrees with the body
// (RFC 9113 section 8.1.1).
type wellFormedHandler struct {
	handler      http.Handler
	limit        int           // maximum size of a header list in bytes
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
	// x/net keeps r until the response is sent. A client that grants no window delays this.
	defer forget(r)
	switch {
	case len(r.Trailer) > maxTrailers:
		// There is no response: if the client did not read the response, the goroutine of the handler
		// would block while writing, and keep the list of trailers.
		panic(http.ErrAbortHandler)
	case headerSize(r) > f.limit+headerSlack:
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	case !contentLengthAgrees(r):
		w.WriteHeader(http.StatusBadRequest)
	case !declaresNone(r):
		f.handler.ServeHTTP(w, r)
	case f.short(): // checked before endsEmpty waits, because the handler counts a request only after this wait
		w.WriteHeader(http.StatusServiceUnavailable)
	case !endsEmpty(w, r, f.endTimeout):
		w.WriteHeader(http.StatusBadRequest)
	default:
		f.handler.ServeHTTP(w, r)
	}
}

// forget clears the parts of a handled request that a client can make large. After the handler, x/net
// reads only whether the method was HEAD.
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

// contentLengthAgrees reports whether the content-length of r, if present, is a single valid number.
// x/net reads an invalid number as 0 and uses the first of several numbers. Whether the body has this
// length is checked by x/net when the handler reads the body.
func contentLengthAgrees(r *http.Request) bool {
	values, declared := r.Header["Content-Length"]
	if !declared {
		return true
	}
	if len(values) != 1 {
		return false
	}
	length, err := strconv.ParseUint(values[0], 10, 63)   // ParseUint accepts only digits
	return err == nil && int64(length) == r.ContentLength // ContentLength is 0 if the header ends the stream
}

// declaresNone reports whether r declares an empty body. Handlers do not read an empty body, so they would
// not detect a body that has bytes in spite of its declared length.
func declaresNone(r *http.Request) bool {
	return r.ContentLength == 0 && r.Header["Content-Length"] != nil
}

// endsEmpty reports whether the body of r ends within timeout and has no bytes.
func endsEmpty(w http.ResponseWriter, r *http.Request, timeout time.Duration) bool {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(timeout))
	var one [1]byte
	n, err := r.Body.Read(one[:])
	return n == 0 && errors.Is(err, io.EOF)
}

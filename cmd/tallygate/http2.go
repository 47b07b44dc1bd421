package main

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"github.com/tallygate/tallygate/config"
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
)

// newHTTP2Server returns the server of a TLS listener's connections over HTTP/2. over1 is
// the server of those over HTTP/1.1, whose handler and timeouts it shares.
//
// HTTP/2 comes from golang.org/x/net, at a version that go.mod names, not from the
// net/http of the Go release that somebody happens to build with: in Go 1.26.8 and older
// any client can end the process (see [soundSince]). Built with Go 1.27 or newer, x/net
// delegates to net/http again, which [encoderTable] takes into account.
func newHTTP2Server(over1 *http.Server, limits config.Limits) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	s := &http.Server{
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:      128,
			MaxEncoderHeaderTableSize: encoderTable(runtime.Version()),
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
		WriteTimeout:      over1.WriteTimeout,
		IdleTimeout:       over1.IdleTimeout,
		ConnContext:       over1.ConnContext,
		ErrorLog:          over1.ErrorLog,
		// Otherwise net/http answers "OPTIONS *" before the handler sees it.
		DisableGeneralOptionsHandler: true,
	}
	s.Handler = wellFormed(over1.Handler, int(limits.HeaderBytes), limits.HeaderTimeout)
	if err := http2.ConfigureServer(s, new(http2.Server)); err != nil { //nolint:staticcheck // deprecated in favour of net/http, which depends on the Go release
		panic(err) // it objects to TLS settings alone, and s has none
	}
	return s
}

// readableHeader returns how long a header list may be, in bytes, to be read at all. A
// connection whose peer sends a longer field ends, since its header compression is lost. Up
// to twice limit, and 64 KiB more at most, the header is read and answered with 431.
func readableHeader(limit int) int { return limit + min(limit, 64<<10) }

// wellFormed passes on to h the requests over HTTP/2 that are well-formed, which x/net does
// not ensure: a header list of limit bytes at most, and a content-length that is a number
// and agrees with the body (RFC 9113 section 8.1.1). Others reach no handler.
func wellFormed(h http.Handler, limit int, patience time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case len(r.Trailer) > mostTrailers:
			// Without an answer: the handler of a client that does not read would wait
			// to write one, and hold the list meanwhile.
			panic(http.ErrAbortHandler)
		case headerSize(r) > limit+headerSlack:
			clear(r.Header) // for the same reason
			refuse(w, http.StatusRequestHeaderFieldsTooLarge)
		case !agrees(w, r, patience):
			refuse(w, http.StatusBadRequest)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// refuse answers as net/http answers an HTTP/1.1 message that it cannot read.
func refuse(w http.ResponseWriter, status int) { http.Error(w, http.StatusText(status), status) }

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

// agrees reports whether the content-length of r, if it has one, is one number, and the
// length of the body as far as that can be told before the body is read. x/net takes a
// value that is no number for 0, and the first of several; it compares those that are left
// with the body while that is read, which is too late where the handler expects none. So
// agrees waits for the end of a body of no bytes, for patience at most.
func agrees(w http.ResponseWriter, r *http.Request, patience time.Duration) bool {
	values, declared := r.Header["Content-Length"]
	if !declared {
		return true
	}
	if len(values) != 1 {
		return false
	}
	length, err := strconv.ParseUint(values[0], 10, 63) // takes digits alone
	if err != nil || int64(length) != r.ContentLength { // which is 0 where the header ends the stream
		return false
	}
	return length > 0 || ends(w, r, patience)
}

// ends reports whether the body of r ends within patience, without a byte.
func ends(w http.ResponseWriter, r *http.Request, patience time.Duration) bool {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(patience))
	var one [1]byte
	n, err := r.Body.Read(one[:])
	return n == 0 && errors.Is(err, io.EOF)
}

// Package http1 sends requests to one server over HTTP/1.1, on the goroutine of the caller. An
// http.Transport uses a goroutine to write a request and another goroutine to read its response, which
// is about half of the cost of a small request. Requests that need these goroutines go to an
// http.Transport.
package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A Transport is an http.RoundTripper for one server. All fields but TLS and Settle must be set before
// the first use. It is safe for concurrent use. From an httptrace.ClientTrace, it calls only
// Got1xxResponse and the functions that Request.Write calls.
type Transport struct {
	// Dial connects to the server, whatever the URL of the request is. A connection should be a
	// syscall.Conn, like the connections of package net. Any other connection serves only one request.
	Dial func(context.Context) (net.Conn, error)
	// TLS has the TLS settings and the name of the server. It is nil for a server without TLS.
	TLS *tls.Config
	// BodyWait is how long RoundTrip waits for the whole body of a request before it sends the request.
	// The server therefore cannot respond before the whole body has been read.
	BodyWait time.Duration
	// HandshakeTimeout bounds a TLS handshake. HeaderTimeout bounds the time to send a request and to
	// receive the header of its response.
	HandshakeTimeout, HeaderTimeout time.Duration
	// HeaderBytes bounds the header of a response together with the informational responses
	// before it.
	HeaderBytes int64
	// MaxIdle bounds the number of idle connections. IdleTimeout bounds how long an idle connection is
	// kept.
	MaxIdle     int
	IdleTimeout time.Duration
	// Settle is how long a connection is not reused after a response, so that the Transport notices a
	// second response to the same request. With 0, connections are reused at once.
	Settle time.Duration
	// Unasked is called when the server has sent a response without a request. For a minute after the
	// last such response, no connection is reused.
	Unasked func()
	// Fallback sends the requests that this package does not send: requests with Expect or an upgrade,
	// and requests whose body is long, slow or of unknown length. It also returns the errors of invalid
	// requests.
	Fallback interface {
		http.RoundTripper
		CloseIdleConnections()
	}

	pool pool
}

// RoundTrip sends r and returns the response once the header of the response has been read. The caller
// must read the response body to its end or close it. Any goroutine may close the body at any time.
// RoundTrip returns the errors of Dial, crypto/tls and the request body, possibly wrapped. If the
// request's context has ended, it returns the cause of the context. The end of the context ends the
// request, or the body of its response, after at most 50 ms.
//
// A server may close a reused connection at any time (RFC 9112 section 9.5). If the server has done so
// before it sent any byte of a response, RoundTrip repeats the request on a new connection, but only if
// no byte of the request was sent or the method is safe to repeat (RFC 9110 section 9.2.2).
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !eligible(r) {
		return t.Fallback.RoundTrip(r)
	}
	if r.ContentLength == 0 {
		return t.send(r, nil)
	}
	body := prefetch(r.Body, int(r.ContentLength))
	if !body.waitComplete(r.Context(), t.BodyWait) {
		late := *r
		late.Body = body
		return t.Fallback.RoundTrip(&late)
	}
	defer body.free()
	_ = r.Body.Close()
	if err := body.fault(); err != nil {
		return nil, err
	}
	return t.send(r, body.bytes())
}

// CloseIdleConnections closes the connections that serve no request.
func (t *Transport) CloseIdleConnections() {
	t.pool.clear()
	t.Fallback.CloseIdleConnections()
}

// send sends r with body. If a reused connection turns out to be closed, send may send r a second time.
func (t *Transport) send(r *http.Request, body []byte) (*http.Response, error) {
	ctx := r.Context()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c := t.pool.take(t); c != nil {
		answer, err := c.roundTrip(r, body)
		if err == nil || !c.wasStale(r, err) {
			return answer, err
		}
	}
	c, err := t.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return c.roundTrip(r, body)
}

// eligible reports whether this package may send r. It includes the checks that http.Transport makes
// and Request.Write does not.
func eligible(r *http.Request) bool {
	none := r.Body == nil || r.Body == http.NoBody
	if none != (r.ContentLength == 0) || r.ContentLength < 0 || r.ContentLength > longestBody || r.TransferEncoding != nil || len(r.Trailer) > 0 {
		return false
	}
	if r.URL == nil || r.URL.Host == "" || r.Header == nil || r.Method == http.MethodConnect || !httpguts.ValidHeaderFieldName(r.Method) {
		return false
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, isInvalid) {
			return false
		}
		switch name {
		case "Connection", "Expect", "Upgrade":
			return false
		}
	}
	return true
}

func isInvalid(value string) bool { return !httpguts.ValidHeaderFieldValue(value) }

// isSafe reports whether r may be sent twice. net/http also repeats requests with an Idempotency-Key,
// but a proxy does not know whether the server honours this field (RFC 9110 section 9.2.2).
func isSafe(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// withBody returns a copy of r whose body is body, the whole request body.
func withBody(r *http.Request, body []byte) *http.Request {
	if body == nil {
		return r
	}
	out := *r
	out.Body = io.NopCloser(bytes.NewReader(body))
	return &out
}

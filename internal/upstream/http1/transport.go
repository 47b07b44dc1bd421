// Package http1 sends requests to one server over HTTP/1.1, on the goroutine of the caller. An
// http.Transport hands each request to a goroutine that writes it and takes the response from
// another goroutine, which is about half of the cost of a small request. Requests that need those
// goroutines go to an http.Transport.
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

// A Transport is an http.RoundTripper for one server. All fields but TLS and Settle must be set
// before the first use. It is safe for concurrent use. It calls Got1xxResponse of an
// httptrace.ClientTrace and the functions that Request.Write calls, and no other.
type Transport struct {
	// Dial connects to the server and ignores the URLs of requests. A connection that is no
	// syscall.Conn, as the connections of package net are, serves one request only.
	Dial func(context.Context) (net.Conn, error)
	// TLS has the settings and the name of the server; nil for a server without TLS.
	TLS *tls.Config
	// BodyWait is how long RoundTrip waits for the whole body of a request before it sends the
	// request. The response then cannot come before the body has been read.
	BodyWait time.Duration
	// HandshakeTimeout bounds a TLS handshake. HeaderTimeout bounds the time in which a request is
	// sent and the header of its response received.
	HandshakeTimeout, HeaderTimeout time.Duration
	// HeaderBytes bounds the header of a response together with the informational responses
	// before it.
	HeaderBytes int64
	// MaxIdle bounds the idle connections. Each is kept for IdleTimeout after its last use.
	MaxIdle     int
	IdleTimeout time.Duration
	// Settle is how long a connection is not reused after a response, in case the server sends a
	// second response to the same request. Zero: reuse at once.
	Settle time.Duration
	// Unasked is called when the server has sent a response without a request. For a minute from
	// the last such response on, each connection serves one request.
	Unasked func()
	// Fallback sends the requests that are not eligible: with a body that is long, slow or of
	// unknown length, with Expect, or with an upgrade. It also returns the errors of invalid requests.
	Fallback interface {
		http.RoundTripper
		CloseIdleConnections()
	}

	pool pool
}

// RoundTrip sends r and returns the response once its header has been read. The response body must
// be read to its end or closed; any goroutine may close it at any time. RoundTrip returns the errors
// of Dial, crypto/tls and the request body, possibly wrapped, and the cause of the request's context
// after that has ended. The end of the context ends the request, or the body of its response, after
// at most 50 ms.
//
// RoundTrip repeats a request on a new connection if the server has closed a reused connection before
// it sent any byte of a response, as it may at any time (RFC 9112 section 9.5), and if either nothing
// of the request was sent or its method is safe to repeat (RFC 9110 section 9.2.2).
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

// send sends r with body, at most twice.
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

// eligible reports whether this package may send r. It makes the checks of http.Transport that
// Request.Write leaves out.
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

// isSafe reports whether r may be sent twice. net/http also repeats requests with an Idempotency-Key;
// whether the server honours that field is unknown to a proxy (RFC 9110 section 9.2.2).
func isSafe(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// withBody returns a copy of r with body, the whole request body.
func withBody(r *http.Request, body []byte) *http.Request {
	if body == nil {
		return r
	}
	out := *r
	out.Body = io.NopCloser(bytes.NewReader(body))
	return &out
}

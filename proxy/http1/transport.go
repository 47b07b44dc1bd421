// Package http1 sends requests to one server over HTTP/1.1, on the goroutine that asks.
// An http.Transport hands each request to a goroutine that writes it and takes the answer
// from another, which is about half of what a small request costs. What needs those
// goroutines is left to it.
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

// A Transport is the way to one server. All its fields must be set but TLS and Settle, before its
// first use. It is safe for concurrent use. A request may be traced by
// httptrace.ClientTrace.Got1xxResponse and what Request.Write calls, by nothing else.
type Transport struct {
	// Dial connects to the server, whatever a request's URL says. What it returns must be a
	// syscall.Conn, as the connections of package net are, or it serves one request only.
	Dial func(context.Context) (net.Conn, error)
	// TLS are the settings for the server, with its name; nil where TLS is not spoken.
	TLS *tls.Config
	// Patience is how long it may take a request's body to arrive. Until then the server does
	// not hear of the request, and its answer cannot come before all of the body.
	Patience time.Duration
	// HandshakeTimeout is how long a TLS handshake may take, HeaderTimeout how long it may
	// take to send a request and to receive the header of its answer.
	HandshakeTimeout, HeaderTimeout time.Duration
	// HeaderBytes is how long the header of an answer may be, with those of the
	// informational answers before it.
	HeaderBytes int64
	// MaxIdle connections at most are kept, each for IdleTimeout since its last use.
	MaxIdle     int
	IdleTimeout time.Duration
	// Settle is how long a connection rests after an answer before it is used again, in case the
	// server sends a second answer to the same request. Zero: not at all.
	Settle time.Duration
	// Unasked is told when the server has sent an answer that nobody asked for. For a minute from
	// the last such answer on, each connection serves one request.
	Unasked func()
	// Others takes the requests that are not for this package: those that are not valid, to
	// say so; with a body that is long, or slow, or of unknown length; with Expect; and
	// those to leave HTTP.
	Others interface {
		http.RoundTripper
		CloseIdleConnections()
	}

	pool pool
}

// RoundTrip sends r and returns the answer as soon as its header has been read. The answer's
// body must be read to its end, or closed, which may be done at any time and by any
// goroutine. Errors of Dial, of crypto/tls and of the request's body come as they are, or
// wrapped; when the request's context has ended the error is the context's. Its end, be it
// before the answer or in its body, ends the request 50 ms late at most.
//
// A request is repeated, on a new connection, when the server closed one that had been used
// before, as it may at any time (RFC 9112 section 9.5), before anything of an answer came;
// and of the request nothing was sent, or to repeat it is safe (RFC 9110 section 9.2.2).
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !isPlain(r) {
		return t.Others.RoundTrip(r)
	}
	if r.ContentLength == 0 {
		return t.send(r, nil)
	}
	body := readAhead(r.Body, int(r.ContentLength))
	if !body.arrives(r.Context(), t.Patience) {
		late := *r
		late.Body = body
		return t.Others.RoundTrip(&late)
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
	t.Others.CloseIdleConnections()
}

// send sends r, whose body is this, twice at most.
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

// isPlain reports whether r is for this package. What http.Transport checks, since
// Request.Write does not, is checked here.
func isPlain(r *http.Request) bool {
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

// isSafe reports whether r may be sent twice. To net/http a field Idempotency-Key says so,
// too; but that is between the client and a server that knows it, which a proxy cannot tell
// (RFC 9110 section 9.2.2).
func isSafe(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// withBody returns r with a body that is there in full.
func withBody(r *http.Request, body []byte) *http.Request {
	if body == nil {
		return r
	}
	out := *r
	out.Body = io.NopCloser(bytes.NewReader(body))
	return &out
}

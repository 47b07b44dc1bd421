package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// A Client sends requests to one server over HTTP/1.1, on the goroutine of the caller. All fields but TLS
// and Settle must be set before the first use. It is safe for concurrent use.
type Client struct {
	// Dial connects to the server. A connection should be a syscall.Conn, like the connections of package
	// net. Any other connection serves only one request, because an idle connection cannot be checked.
	Dial func(context.Context) (net.Conn, error)
	// TLS has the TLS settings and the name of the server. It is nil for a server without TLS.
	TLS *tls.Config
	// BodyWait bounds how long RoundTrip waits for the end of a body of up to 16 KiB before it sends the
	// request. If the body ends in this time, the server gets no part of the request before the body is
	// complete.
	BodyWait time.Duration
	// HandshakeTimeout bounds a TLS handshake. HeaderTimeout bounds the time to send a request and to
	// receive the header of its response. For a body that is sent while it arrives, HeaderTimeout begins
	// after the body.
	HandshakeTimeout, HeaderTimeout time.Duration
	// MaxIdle bounds the number of idle connections. IdleTimeout bounds how long an idle connection is
	// kept.
	MaxIdle     int
	IdleTimeout time.Duration
	// Settle is how long a connection is not reused after a response, so that the Client notices a second
	// response to the same request. With 0, connections are reused at once.
	Settle time.Duration
	// Unasked is called when the server has sent a response without a request. For a minute after the
	// last such response, no connection is reused.
	Unasked func()

	pool pool
}

// RoundTrip sends r and returns the response once its header has been read. It returns the errors of Dial,
// crypto/tls and the request body, possibly wrapped, and an [http1.Error] for a response that is not valid
// HTTP/1.1. If ctx has ended, it returns the cause of ctx. The end of ctx ends the request, or the body of
// its response, after at most 50 ms.
//
// A server may close a reused connection at any time (RFC 9112 section 9.5). If the server has done so
// before it sent any byte of a response, RoundTrip repeats the request on a new connection, but only if
// no byte of the request was sent or the method is safe to repeat (RFC 9110 section 9.2.2).
func (t *Client) RoundTrip(ctx context.Context, r *Request) (*Response, error) {
	err := r.check()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil || r.Body == nil || r.Length == 0 {
		r.closeBody()
		if err != nil {
			return nil, err
		}
		return t.send(ctx, r, nil)
	}
	u := newUpload(r)
	defer u.release()
	small := r.Length > 0 && r.Length <= longestBody
	switch {
	case !small || !u.waitWhole(ctx, t.BodyWait, r.Arrived):
		return t.stream(ctx, r, u, small)
	case u.fault() != nil:
		return nil, u.fault()
	}
	return t.send(ctx, r, u.content[:r.Length])
}

// CloseIdleConnections closes the connections that serve no request.
func (t *Client) CloseIdleConnections() { t.pool.clear() }

// send sends r with body. If a reused connection turns out to be closed, send may send r a second time. A
// request to switch protocols gets a connection of its own.
func (t *Client) send(ctx context.Context, r *Request, body []byte) (*Response, error) {
	if r.Upgrade == "" {
		if c := t.pool.take(t); c != nil {
			response, err := c.roundTrip(ctx, r, body)
			if err == nil || !c.wasStale(r, err) {
				return response, err
			}
		}
	}
	c, err := t.connect(ctx)
	if err != nil {
		return nil, orCause(ctx, err)
	}
	return c.roundTrip(ctx, r, body)
}

// stream sends r while its body arrives, on a new connection that serves no other request. The server may
// respond before the whole body has been sent, and the rest of the body could then be taken for the next
// request. A new connection costs little beside a body of 16 KiB or 100 ms. reading says that a goroutine
// already runs u.run.
func (t *Client) stream(ctx context.Context, r *Request, u *upload, reading bool) (*Response, error) {
	c, err := t.connect(ctx)
	if err != nil {
		r.closeBody()
		return nil, orCause(ctx, err)
	}
	c.begin(ctx)
	if err := u.start(c, r); err != nil {
		r.closeBody()
		return nil, c.fail(ctx, err)
	}
	if !reading {
		go u.run()
	}
	head, _, err := c.readHead(r)
	unsent := u.responded()
	if err != nil {
		return nil, c.fail(ctx, cmp.Or(unsent, err))
	}
	return c.respond(ctx, r, &head, false), nil
}

// isSafe reports whether a request with this method may be sent twice. net/http also repeats requests with
// an Idempotency-Key, but a proxy does not know whether the server honours this field (RFC 9110 section
// 9.2.2).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// orCause returns the cause of ctx if ctx has ended, and otherwise err.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

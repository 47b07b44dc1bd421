package http1

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// roundTrip sends r with body and returns the response. Afterwards, c belongs to the body of the
// response. If the response has no body, c is in the pool or closed.
func (c *conn) roundTrip(r *http.Request, body []byte) (*http.Response, error) {
	ctx := r.Context()
	c.begin(ctx)
	answer, reusable, err := c.exchange(withBody(r, body))
	if err != nil {
		c.discard()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	answer.Request, answer.TLS = r, c.state
	if answer.Body == http.NoBody {
		c.rest(reusable)
		return answer, nil
	}
	arrived := answer.ContentLength >= 0 && answer.ContentLength <= int64(c.in.Buffered())
	if !arrived { // a body that has arrived needs no further read from the connection
		c.headerRead()
	}
	answer.Body = &responseBody{body: answer.Body, conn: c, socket: c.socket, ctx: ctx, reusable: reusable, arrived: arrived}
	return answer, nil
}

// exchange writes r and reads the header of the response. reusable reports whether the connection
// can serve another request after the response body has been read.
func (c *conn) exchange(r *http.Request) (answer *http.Response, reusable bool, err error) {
	unsent := r.Write(c.out)
	if failed := c.out.Flush(); failed != nil {
		unsent = failed // not wrapped: net/http reports an error of Request.Write as an error of the body
	}
	if unsent != nil && c.socket.sent == 0 {
		return nil, false, unsent
	}
	answer, reusable, err = c.readHeader(r)
	if unsent != nil && err != nil {
		return nil, false, unsent
	}
	// A server that responds before it has read the whole body may leave the rest unread (RFC 9112
	// section 9.5).
	return answer, reusable && unsent == nil && (r.ContentLength == 0 || tookBody(answer.StatusCode)), err
}

// tookBody reports whether the status of a response says that the server has processed the request, and
// so has read its body. A server that refuses or redirects a request, or that fails, may not have read
// the body. Such a server may take the body for the next request on the connection (RFC 9112 section
// 9.3).
func tookBody(status int) bool {
	return status >= 200 && status <= 299 || status == http.StatusSeeOther
}

// readHeader reads the header of the response to r, after informational responses. reusable reports
// whether the connection can serve another request after the response.
func (c *conn) readHeader(r *http.Request) (answer *http.Response, reusable bool, err error) {
	trace := httptrace.ContextClientTrace(r.Context())
	regular := true
	for {
		if _, err := c.in.Peek(1); err != nil {
			return nil, false, err
		}
		header, _ := c.in.Peek(c.in.Buffered())
		header = header[:max(0, bytes.Index(header, []byte("\r\n\r\n")))] // a complete header, which ReadResponse does not move in the buffer, or empty
		answer, err := http.ReadResponse(c.in, r)
		if err != nil {
			return nil, false, err
		}
		code := answer.StatusCode
		regular = regular && isRegular(answer, header)
		if code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			return answer, !r.Close && regular && code >= 200, nil
		}
		if trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(code, textproto.MIMEHeader(answer.Header)); err != nil {
				return nil, false, err
			}
		}
	}
}

// isRegular reports whether the connection may be reused after the response: the server keeps the
// connection open, uses HTTP/1.1, and frames the response in exactly one way. A server of HTTP/1.0 may
// not know chunks, and other versions are invalid in this package.
func isRegular(answer *http.Response, header []byte) bool {
	if answer.Close || answer.ProtoMajor != 1 || answer.ProtoMinor != 1 || announcesTooMuch(answer) {
		return false
	}
	return len(answer.TransferEncoding) == 0 || !isAmbiguous(header)
}

// announcesTooMuch reports whether a response announces a body although its status does not allow a
// body (RFC 9110 section 8.6 and RFC 9112 section 6.1). The server may send this body, and the gate
// would take the body for the next response.
func announcesTooMuch(answer *http.Response) bool {
	if answer.StatusCode > 199 && answer.StatusCode != http.StatusNoContent {
		return false
	}
	length := answer.Header["Content-Length"]
	return len(answer.TransferEncoding) > 0 || len(length) > 0 && length[0] != "0"
}

// isAmbiguous reports whether the received header of a chunked response has, or may have, a
// Content-Length too. net/http ignores the Content-Length, as RFC 9112 section 6.3 demands, but the
// same section forbids reusing the connection. header is empty if the header arrived in pieces,
// because net/http overwrites the pieces in its buffer. An empty header is ambiguous, because a
// Content-Length may have been in it.
func isAmbiguous(header []byte) bool {
	return len(header) == 0 || bytes.Contains(bytes.ToLower(header), []byte("\ncontent-length"))
}

// wasStale reports whether r must be sent again on a new connection after it failed with err on the
// reused connection c.
func (c *conn) wasStale(r *http.Request, err error) bool {
	var timeout net.Error
	if c.received || errors.As(err, &timeout) && timeout.Timeout() {
		return false
	}
	return c.socket.sent == 0 || isSafe(r)
}

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

// roundTrip sends r with body and returns the answer, after which c is gone, or the
// answer's body has it.
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
	if !arrived { // else nothing more is read
		c.headerRead()
	}
	answer.Body = &responseBody{body: answer.Body, conn: c, socket: c.socket, ctx: ctx, reusable: reusable, arrived: arrived}
	return answer, nil
}

// exchange writes r and reads the header of its answer. Other requests may follow on the
// connection, when the answer's body has been read, if it reports so.
func (c *conn) exchange(r *http.Request) (answer *http.Response, reusable bool, err error) {
	unsent := r.Write(c.out)
	if failed := c.out.Flush(); failed != nil {
		unsent = failed // as it was, where net/http takes it for a fault of the body
	}
	if unsent != nil && c.socket.sent == 0 {
		return nil, false, unsent
	}
	answer, reusable, err = c.readHeader(r)
	if unsent != nil && err != nil {
		return nil, false, unsent
	}
	// A server that answers before it has read all may refuse the rest (RFC 9112 section 9.5).
	return answer, reusable && unsent == nil && (r.ContentLength == 0 || tookBody(answer.StatusCode)), err
}

// tookBody reports whether an answer with this status says that the server has acted on the
// request, for which it had to read the body. Servers refuse, redirect and fail without reading:
// they may then take the body for the next request on the connection (RFC 9112 section 9.3).
func tookBody(status int) bool {
	return status >= 200 && status <= 299 || status == http.StatusSeeOther
}

// readHeader reads until the answer to r begins, and reports whether the connection will be
// of use after it.
func (c *conn) readHeader(r *http.Request) (answer *http.Response, reusable bool, err error) {
	trace := httptrace.ContextClientTrace(r.Context())
	regular := true
	for {
		if _, err := c.in.Peek(1); err != nil {
			return nil, false, err
		}
		header, _ := c.in.Peek(c.in.Buffered())
		header = header[:max(0, bytes.Index(header, []byte("\r\n\r\n")))] // all of the header, which so does not move, or nothing
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

// isRegular reports whether the server means to go on, and speaks HTTP/1.1 as it is meant:
// older ones may know nothing of chunks, and nothing else has a right to be here.
func isRegular(answer *http.Response, header []byte) bool {
	if answer.Close || answer.ProtoMajor != 1 || answer.ProtoMinor != 1 || announcesTooMuch(answer) {
		return false
	}
	return len(answer.TransferEncoding) == 0 || !isAmbiguous(header)
}

// announcesTooMuch reports whether an answer without a body, by its status, says that it has
// one: by RFC 9110 section 8.6 and RFC 9112 section 6.1 it must not. Who says so may send
// one, and what is in it would be the next answer.
func announcesTooMuch(answer *http.Response) bool {
	if answer.StatusCode > 199 && answer.StatusCode != http.StatusNoContent {
		return false
	}
	length := answer.Header["Content-Length"]
	return len(answer.TransferEncoding) > 0 || len(length) > 0 && length[0] != "0"
}

// isAmbiguous reports whether the header of a chunked answer, as it was received, has a
// Content-Length as well, or might: net/http drops that, rightly, but the connection is not
// to be trusted any more (RFC 9112 section 6.3). A header that came in pieces might: net/http
// reads them into one buffer, and over what it has read.
func isAmbiguous(header []byte) bool {
	return len(header) == 0 || bytes.Contains(bytes.ToLower(header), []byte("\ncontent-length"))
}

// wasStale reports whether r, which has failed with err on a connection that had been used
// before, is to be sent again.
func (c *conn) wasStale(r *http.Request, err error) bool {
	var timeout net.Error
	if c.received || errors.As(err, &timeout) && timeout.Timeout() {
		return false
	}
	return c.socket.sent == 0 || isSafe(r)
}

package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/http1"
)

// maxInformational bounds the informational responses to a request.
const maxInformational = 100

var (
	errInformational = errors.New("too many informational responses")
	errSwitch        = errors.New("the upstream switched to a protocol that the request did not ask for")
)

// readHead reads the head of the response to r, after informational responses. regular reports whether the
// connection can serve another request after the response (see [http1.Response.Persistent]). The fields of
// head are valid until the next call.
func (c *conn) readHead(r *Request) (head http1.Response, regular bool, err error) {
	regular = true
	for range maxInformational {
		head, err = c.nextHead()
		if err != nil {
			return head, false, err
		}
		regular = regular && head.Persistent()
		switch {
		case head.Status >= 200:
			return head, regular, nil
		case head.Status == http.StatusSwitchingProtocols:
			return head, false, checkSwitch(r, &head)
		case r.Informer != nil:
			if err := r.Informer.Inform(head.Status, endToEnd(nil, head.Fields)); err != nil {
				return head, false, err
			}
		}
	}
	return head, false, errInformational
}

// nextHead reads a head.
func (c *conn) nextHead() (http1.Response, error) {
	c.Begin()
	for {
		head, n, err := c.ParseResponse()
		if err != nil || n > 0 {
			return head, err
		}
		if err := c.More(headBytes); err != nil {
			if isEnd(err) {
				err = io.ErrUnexpectedEOF
			}
			return head, err
		}
	}
}

// checkSwitch checks the head of a response with status 101 to r (RFC 9110 section 7.8).
func checkSwitch(r *Request, head *http1.Response) error {
	protocols := slices.Collect(http1.Values(head.Fields, "Upgrade"))
	if r.Upgrade == "" || len(protocols) != 1 || !strings.EqualFold(protocols[0], r.Upgrade) ||
		!http1.HasToken(head.Fields, "Connection", "upgrade") || head.Length > 0 || head.Length == http1.Chunked {
		return errSwitch
	}
	return nil
}

// tookBody reports whether the status of a response says that the server has processed the request, and
// so has read its body. A server that refuses or redirects a request, or that fails, may not have read
// the body. Such a server may take the body for the next request on the connection (RFC 9112 section
// 9.3).
func tookBody(status int) bool {
	return status >= 200 && status <= 299 || status == http.StatusSeeOther
}

// endToEnd appends fields to kept without the fields that concern only the connection or frame the
// message, and without the fields that Connection names.
func endToEnd(kept, fields []http1.Field) []http1.Field {
	kept = slices.Grow(kept, len(fields)+2) // the gate adds fields
	var named http1.NamedFields
	for value := range http1.Values(fields, "Connection") {
		named.Add(value)
	}
	for _, f := range fields {
		if !http1.IsHopByHop(f.Name) && !named.Has(f.Name) {
			kept = append(kept, f)
		}
	}
	return kept
}

// respond returns the response to r with this head. Afterwards, c belongs to the body of the response. If
// the response has no body, c is in the pool or closed.
func (c *conn) respond(ctx context.Context, r *Request, head *http1.Response, reusable bool) *Response {
	length := head.BodyLength(r.Method)
	b := &r.room
	b.conn, b.socket, b.ctx, b.reusable = c, c.socket, ctx, reusable && length != http1.UntilClose
	response := &b.response
	*response = Response{Status: head.Status, Fields: endToEnd(b.fields[:0], head.Fields), Length: max(length, http1.Chunked), Announced: http1.UntilClose, Body: b, Trailer: noTrailer}
	switch {
	case head.Status == http.StatusSwitchingProtocols:
		c.headRead()
		response.Tunnel = &tunnel{c, c.socket.stop}
		response.Body = response.Tunnel
		return response
	case length == 0:
		if head.Length >= 0 && head.Status != http.StatusNoContent {
			response.Announced = head.Length
		}
		response.Arrived, response.Body = true, http.NoBody
		c.rest(reusable)
		return response
	case length == http1.Chunked:
		if response.Arrived = http1.ChunksArrived(c.Pending()); !response.Arrived {
			response.Trailer = b.trailer
		}
	default:
		response.Arrived = length > 0 && length <= int64(c.In.Buffered())
	}
	b.body.Reset(c.In, length)
	if !response.Arrived { // a body that has arrived needs no further read from the connection
		c.headRead()
	}
	return response
}

func noTrailer() []http1.Field { return nil }

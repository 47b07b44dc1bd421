package upstream

import (
	"context"
	"io"

	"github.com/tallygate/tallygate/internal/http1"
)

// A Request is a request to an upstream. It is for one call of RoundTrip, whose Response may use its memory.
type Request struct {
	Method, Target, Host string
	// Fields are sent in their order and spelling. They must not frame the message, name the connection or
	// be Host: RoundTrip adds such fields itself.
	Fields   []http1.Field
	Body     io.ReadCloser // nil without a body. RoundTrip closes it, possibly after it has returned.
	Length   int64         // the length of the body, or http1.Chunked
	Arrived  bool          // the whole body has been received, so that reading it does not wait
	Upgrade  string        // the protocol to switch to, or ""
	Trailers bool          // the client accepts trailers (TE: trailers)
	Close    bool          // the connection must not be used again
	Informer Informer      // nil: informational responses are dropped

	room responseBody // for the response over HTTP/1.1, which then needs no allocation of its own
}

// An Informer gets the informational responses to a request. It is an interface and not a function, because a
// function that belongs to one request would be an allocation.
type Informer interface {
	// Inform is called for each informational response, but not for the 101 of HTTP/1.1, before RoundTrip
	// returns. If it returns an error, so does RoundTrip. The fields are as in Response.
	Inform(status int, fields []http1.Field) error
}

// A Response is the response of an upstream.
type Response struct {
	Status int
	// Fields are the fields in their order and spelling, without the fields that frame the message or name
	// the connection, and without the fields that Connection names. The caller may change them.
	Fields []http1.Field
	Length int64 // the length of the body, or http1.Chunked if it is unknown
	// Announced is the Content-Length of a response that has no body because of its status or the method
	// HEAD. It is http1.UntilClose without a Content-Length.
	Announced int64
	// Body must be read to its end or closed. Any goroutine may close it at any time. Its end is io.EOF; a
	// truncated body ends with another error.
	Body    io.ReadCloser
	Arrived bool // the whole body has been received, so that reading it does not wait
	// Trailer returns the trailer after the end of the body. The caller may change it.
	Trailer func() []http1.Field
	// Tunnel is the connection after a response with status 101, which switches to the Upgrade of the
	// request. It is nil after any other response. It also has a method CloseWrite.
	Tunnel io.ReadWriteCloser
}

// A RoundTripper sends requests to an upstream.
type RoundTripper interface {
	// RoundTrip sends r and returns the response once its header has been read.
	RoundTrip(ctx context.Context, r *Request) (*Response, error)
	// CloseIdleConnections closes the connections that serve no request.
	CloseIdleConnections()
}

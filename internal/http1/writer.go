package http1

import (
	"net"
	"net/http"
)

// A ResponseWriter is the [http.ResponseWriter] of an HTTP/1.x request. It is an interface, because the handler imports
// no server and the server no handler. The gate sends its own responses with
// the methods of net/http. It forwards responses with WriteFields, SetTrailer and CloseAfter, which keep the
// fields of the upstream in their order and spelling. Any goroutine may set deadlines; only the handler may
// call the other methods.
type ResponseWriter interface {
	http.ResponseWriter

	// TakeConn takes the connection from the server, for a tunnel. received has the bytes that the client has sent
	// after the request. The handler must close the connection before it returns.
	TakeConn() (conn net.Conn, received []byte, err error)

	// RequestFields returns the fields of the request in their order and spelling, with Host and the
	// fields about framing and the connection. The slice is valid until the handler returns.
	RequestFields() []Field

	// BodyArrived reports whether the whole body of the request has been received, so that reading it neither
	// waits nor sends 100 Continue. It must be called before the first read.
	BodyArrived() bool

	// WriteFields is WriteHeader for a status and fields in their order and spelling. The fields must not
	// frame the message or name the connection: the writer adds such fields itself. length is the length
	// of the body, or Chunked if the length is unknown. A response without a body because of its status, or
	// because of the method HEAD, has the Content-Length that length says, except that UntilClose
	// says that there is no Content-Length. An informational status is sent at once.
	WriteFields(status int, fields []Field, length int64)

	// SetTrailer sets the trailer that is sent after a body of unknown length. It must be called before
	// the handler returns.
	SetTrailer(fields []Field)

	// CloseAfter closes the connection after the response. It must be called before the header is written, so
	// that the header contains Connection: close.
	CloseAfter()
}

package proxy

import (
	"errors"
	"net"
	"net/http"
	"os"

	"github.com/tallygate/tallygate/internal/upstream"
)

// A failure says what failed after a request was granted. It is not a decision, and has its own
// metric.
type failure uint8

const (
	none failure = iota
	clientClosed
	clientStalled
	clientMalformed
	bodyTooLarge
	upstreamUnreachable
	upstreamTimeout
	upstreamTLS
	upstreamReset
)

var failures = [...]struct {
	label       string
	status      int
	description string
}{
	none:                {"", 0, ""},
	clientClosed:        {"client_closed", 499, ""},
	clientStalled:       {"client_stalled", http.StatusRequestTimeout, "The request body did not arrive in time."},
	clientMalformed:     {"client_malformed", http.StatusBadRequest, "The request body is malformed."},
	bodyTooLarge:        {"body_too_large", http.StatusRequestEntityTooLarge, "The request body is larger than the gate accepts."},
	upstreamUnreachable: {"upstream_unreachable", http.StatusBadGateway, "The API cannot be reached."},
	upstreamTimeout:     {"upstream_timeout", http.StatusGatewayTimeout, "The API did not answer in time."},
	upstreamTLS:         {"upstream_tls", http.StatusBadGateway, "The connection to the API is not trusted."},
	upstreamReset:       {"upstream_reset", http.StatusBadGateway, "The API broke off its answer."},
}

// classify returns the failure that caused err. It checks the client first, because the request to
// the upstream also fails when a client disconnects, stalls or sends a malformed body.
func (x *exchange) classify(err error) failure {
	var (
		tooLarge *http.MaxBytesError
		dial     *net.OpError
		timeout  net.Error
	)
	body := x.body.fault.Load()
	switch {
	case errors.As(err, &tooLarge) || body != nil && errors.As(*body, &tooLarge):
		return bodyTooLarge
	case body != nil && errors.Is(*body, os.ErrDeadlineExceeded):
		return clientStalled
	case x.request.Context().Err() != nil:
		return clientClosed
	case body != nil:
		return clientMalformed
	case errors.As(err, &dial) && dial.Op == "dial":
		return upstreamUnreachable
	case upstream.IsTLSError(err):
		return upstreamTLS
	case errors.As(err, &timeout) && timeout.Timeout():
		return upstreamTimeout
	default:
		return upstreamReset
	}
}

// abort breaks off a response that has begun and could not be sent to its end because of err. It panics
// with http.ErrAbortHandler. The server then ends the connection or the HTTP/2 stream so that the client
// does not take the response for a complete one.
func (x *exchange) abort(err error) {
	switch {
	case x.conn.terminated() != nil:
	case x.response.clientWriteFailed || x.request.Context().Err() != nil:
		x.failure, x.detail = clientClosed, err
	default:
		x.failure, x.detail = upstreamReset, err
	}
	panic(http.ErrAbortHandler)
}

// answerFailure answers a granted request whose forwarding ended with err before its response began.
// If the client waits for no answer, it aborts the connection.
func (x *exchange) answerFailure(err error) {
	end := x.conn.terminated()
	if end == nil {
		x.failure, x.detail = x.classify(err), err
	}
	switch {
	case end != nil && !end.refuses():
		panic(http.ErrAbortHandler)
	case end != nil:
		writeRefusal(&x.response, end.decision, true)
		return
	}
	if x.failure == clientClosed {
		// If the handler returned without a response, a client that has closed only its sending side
		// would receive a 200.
		panic(http.ErrAbortHandler)
	}
	kind := failures[x.failure]
	writeError(&x.response, kind.status, errorBody{Error: codes[kind.status], Description: kind.description, Reason: kind.label, RequestID: x.id})
}

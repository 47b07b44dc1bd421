package proxy

import (
	"errors"
	"net"
	"net/http"
	"os"

	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/upstream"
)

// failureAnswers are the answers to granted requests that failed. A client that has disconnected gets no
// answer; 499 is for the log.
var failureAnswers = [...]struct {
	status      int
	description string
}{
	accesslog.ClientClosed:        {499, ""},
	accesslog.ClientStalled:       {http.StatusRequestTimeout, "The request body did not arrive in time."},
	accesslog.ClientMalformed:     {http.StatusBadRequest, "The request body is malformed."},
	accesslog.BodyTooLarge:        {http.StatusRequestEntityTooLarge, "The request body is larger than the gate accepts."},
	accesslog.UpstreamUnreachable: {http.StatusBadGateway, "The API cannot be reached."},
	accesslog.UpstreamTimeout:     {http.StatusGatewayTimeout, "The API did not answer in time."},
	accesslog.UpstreamTLS:         {http.StatusBadGateway, "The connection to the API is not trusted."},
	accesslog.UpstreamReset:       {http.StatusBadGateway, "The API broke off its answer."},
}

// classify returns the failure that caused err. It checks the client first, because the request to
// the upstream also fails when a client disconnects, stalls or sends a malformed body.
func (x *exchange) classify(err error) accesslog.Failure {
	var (
		tooLarge *http.MaxBytesError
		dial     *net.OpError
		timeout  net.Error
	)
	body := x.body.fault.Load()
	switch {
	case errors.As(err, &tooLarge) || body != nil && errors.As(*body, &tooLarge):
		return accesslog.BodyTooLarge
	case body != nil && errors.Is(*body, os.ErrDeadlineExceeded):
		return accesslog.ClientStalled
	case x.Request.Context().Err() != nil:
		return accesslog.ClientClosed
	case body != nil:
		return accesslog.ClientMalformed
	case errors.As(err, &dial) && dial.Op == "dial":
		return accesslog.UpstreamUnreachable
	case upstream.IsTLSError(err):
		return accesslog.UpstreamTLS
	case errors.As(err, &timeout) && timeout.Timeout():
		return accesslog.UpstreamTimeout
	default:
		return accesslog.UpstreamReset
	}
}

// abort breaks off a response that has begun and could not be sent to its end because of err. It panics
// with http.ErrAbortHandler. The server then ends the connection or the HTTP/2 stream so that the client
// does not take the response for a complete one.
func (x *exchange) abort(err error) {
	switch {
	case x.conn.terminated() != nil:
	case x.response.clientWriteFailed || x.Request.Context().Err() != nil:
		x.failure, x.detail = accesslog.ClientClosed, err
	default:
		x.failure, x.detail = accesslog.UpstreamReset, err
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
		x.refuse(end.decision, true)
		return
	}
	if x.failure == accesslog.ClientClosed {
		// If the handler returned without a response, a client that has closed only its sending side
		// would receive a 200.
		panic(http.ErrAbortHandler)
	}
	answer := failureAnswers[x.failure]
	x.sendError(answer.status, nil, errorBody{Error: codes[answer.status], Description: answer.description, Reason: x.failure.String(), RequestID: x.id})
}

package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"sync"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/upstream"
)

// forward sends the granted request to the upstream of its API, and the response to the client.
func (p *Proxy) forward(x *exchange) {
	up := p.upstreams[x.decision.API]
	defer up.AfterRequest()
	request := x.request
	x.bodyMayPause = request.ContentLength < 0 && mayPause(request.Header, up.Protocol)
	if request.ContentLength != 0 {
		ctx, cancel := context.WithCancel(request.Context())
		defer cancel()
		request = request.WithContext(ctx)
		x.startRecheck(func() {
			cancel()
			x.interruptBody()
		})
	}
	defer x.stopRecheck()
	x.reverse = httputil.ReverseProxy{
		Transport:  upstreamRoundTripper{x},
		BufferPool: buffers,
		ErrorLog:   p.errorLog,
		Rewrite:    func(pr *httputil.ProxyRequest) { p.rewrite(pr.Out, pr.In, x, up) },
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			x.answerFailure(err)
		},
	}
	if x.decision.Preflight {
		x.reverse.ModifyResponse = filterPreflight
	}
	if x.bodyUnread() {
		// The upstream may respond before it has read the body. By default net/http holds back the
		// response until the client has sent the rest of the body.
		_ = x.control.EnableFullDuplex()
	}
	x.reverse.ServeHTTP(x, request)
	p.headers.removeReservedTrailers(x.Header()) // after ReverseProxy, which adds trailers last
}

// rewrite turns out, a copy of in, into the request to the upstream.
func (p *Proxy) rewrite(out, in *http.Request, x *exchange, up *upstream.Upstream) {
	// The upstream gets the same bytes of path, query and host that package policy has matched.
	out.URL.Scheme, out.URL.Host, out.URL.User = up.Scheme, up.Host, nil
	out.URL.RawQuery = in.URL.RawQuery
	out.Host = in.Host
	if x.decision.Preflight {
		rewritePreflight(out, in, &x.checkedRequest)
		return
	}
	out.Trailer = nil // the trailer would arrive after the check of the headers
	p.headers.removeReserved(out.Header)
	delete(out.Header, "Expect") // net/http sends 100 Continue when the gate reads the body
	if x.assertion != "" {
		delete(out.Header, "Authorization") // the assertion replaces the token
	}
	p.headers.setIdentityHeaders(out.Header, &x.checkedRequest, &x.headerValues)
	out.Close = x.decision.AnyBody && hasBody(in) && up.Protocol == config.HTTP1
	if out.Body != nil {
		// MaxBytesReader gets no ResponseWriter, because the transport reads the body on a goroutine
		// of its own, which must not touch the response.
		out.Body = http.MaxBytesReader(nil, &stallingBody{out.Body, x}, p.bodyBytes)
	}
}

// answerFailure answers a granted request whose forwarding ended with err before its response began.
// If it is too late for an answer, it aborts the connection.
func (x *exchange) answerFailure(err error) {
	end := x.terminated()
	if end == nil {
		x.failure, x.detail = x.classify(err), err
	}
	switch {
	case x.status == http.StatusSwitchingProtocols && x.recheck.tunnel != nil:
		return // the connection no longer speaks HTTP
	case x.status == http.StatusSwitchingProtocols: // ReverseProxy has refused to switch protocols
		panic(http.ErrAbortHandler)
	case end != nil && !end.refuses():
		panic(http.ErrAbortHandler)
	case end != nil:
		writeRefusal(x, end.decision, true)
		return
	}
	if x.failure == clientClosed {
		// If the handler returned without a response, a client that has closed only its sending side
		// would receive a 200.
		panic(http.ErrAbortHandler)
	}
	kind := failures[x.failure]
	writeError(x, kind.status, errorBody{Error: codes[kind.status], Description: kind.description, Reason: kind.label, RequestID: x.id})
}

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
	body := x.bodyFault.Load()
	switch {
	case errors.As(err, &tooLarge):
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

// classifyAbort returns why a response ended before its last byte.
func classifyAbort(x *exchange) failure {
	if x.clientWriteFailed || x.request.Context().Err() != nil {
		return clientClosed
	}
	return upstreamReset
}

// buffers lends ReverseProxy buffers of 32 KiB, with which it copies responses.
var buffers = &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte  { return b.pool.Get().(*[32 << 10]byte)[:] }
func (b *bufferPool) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

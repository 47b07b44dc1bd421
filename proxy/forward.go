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

// forward sends the granted request to its API's upstream and the answer back.
// The decision has been taken: nothing here asks whether, only how.
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
		Rewrite: func(pr *httputil.ProxyRequest) {
			out := pr.Out
			// What was matched is what is forwarded: the same path bytes, the same
			// query bytes, the same host.
			out.URL.Scheme, out.URL.Host, out.URL.User = up.Scheme, up.Host, nil
			out.URL.RawQuery = pr.In.URL.RawQuery
			out.Host = pr.In.Host
			out.Trailer = nil // a field after the body would come too late to be judged
			p.headers.removeReserved(out.Header)
			delete(out.Header, "Expect") // answered here, now that the request may pass
			if x.assertion != "" {
				delete(out.Header, "Authorization") // the assertion is there in its place
			}
			p.headers.setIdentityHeaders(out.Header, x)
			out.Close = x.decision.AnyBody && hasBody(request) && up.Protocol == config.HTTP1
			if out.Body != nil {
				// Without the writer: the transport reads from a goroutine of its
				// own, which must not touch the answer.
				out.Body = http.MaxBytesReader(nil, &stallingBody{out.Body, x}, p.bodyBytes)
			}
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			end := x.terminated()
			if end == nil {
				x.failure, x.detail = x.classify(err), err
			}
			switch {
			case x.status == http.StatusSwitchingProtocols && x.recheck.tunnel != nil:
				return // this is HTTP no more
			case x.status == http.StatusSwitchingProtocols: // ReverseProxy sees no switch in it
				panic(http.ErrAbortHandler)
			case end != nil && !end.refuses():
				panic(http.ErrAbortHandler)
			case end != nil:
				writeRefusal(x, end.decision, x.id, true)
				return
			}
			if x.failure == clientClosed {
				// Nobody is there to answer, or somebody who only reads: saying
				// nothing would be taken for 200.
				panic(http.ErrAbortHandler)
			}
			kind := failures[x.failure]
			writeError(x, kind.status, errorBody{Error: codes[kind.status], Description: kind.description, Reason: kind.label, RequestID: x.id})
		},
	}
	if x.bodyUnread() {
		// The upstream may answer before it has read the body. Otherwise net/http
		// holds that answer back until the client has sent the rest.
		_ = x.control.EnableFullDuplex()
	}
	x.reverse.ServeHTTP(x, request)
	p.headers.removeReservedTrailers(x.Header()) // which ReverseProxy adds last
}

// A failure is what can go wrong after a request was granted. It is not a decision
// and has a metric of its own.
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

// classify tells who failed. The client's side comes first: when a client leaves,
// stalls or sends nonsense, the upstream's connection breaks too, but as a
// consequence.
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

// brokenOff tells why an answer ended in the middle.
func classifyAbort(x *exchange) failure {
	if x.clientWriteFailed || x.request.Context().Err() != nil {
		return clientClosed
	}
	return upstreamReset
}

// buffers lends ReverseProxy the 32 KiB it copies each answer through.
var buffers = &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte  { return b.pool.Get().(*[32 << 10]byte)[:] }
func (b *bufferPool) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

package proxy

import (
	"context"
	"net/http"
	"net/http/httputil"
	"sync"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/upstream"
)

// forward sends the granted request to the upstream of its API, and the response to the client.
func (p *Proxy) forward(x *exchange) {
	up := p.upstreams[x.decision.API]
	defer up.AfterRequest()
	request := x.request
	x.body.mayPause = request.ContentLength < 0 && mayPause(request.Header, up.Protocol)
	if request.ContentLength != 0 {
		ctx, cancel := context.WithCancel(request.Context())
		defer cancel()
		request = request.WithContext(ctx)
		x.startRecheck(func() {
			cancel()
			x.body.interrupt()
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
	if x.body.isUnread() {
		// The upstream may respond before it has read the body. By default net/http holds back the
		// response until the client has sent the rest of the body.
		_ = x.conn.control().EnableFullDuplex()
	}
	x.reverse.ServeHTTP(&x.response, request)
	p.headers.removeReservedTrailers(x.response.Header()) // after ReverseProxy, which adds trailers last
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
	p.headers.setIdentityHeaders(out.Header, &x.checkedRequest, &x.identityValues)
	out.Close = x.decision.AnyBody && hasBody(in) && up.Protocol == config.HTTP1
	if out.Body != nil {
		out.Body = x.body.limit(out.Body, p.bodyBytes)
	}
}

// buffers lends ReverseProxy buffers of 32 KiB, with which it copies responses.
var buffers = &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte  { return b.pool.Get().(*[32 << 10]byte)[:] }
func (b *bufferPool) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
)

// upstream is where one API's requests go.
type upstream struct {
	settings     config.Upstream
	scheme, host string
	transport    *http.Transport
	retired      atomic.Bool // no new request comes
}

func newUpstream(c config.Upstream) *upstream {
	return &upstream{
		settings: c,
		scheme:   c.URL.Scheme,
		host:     c.URL.Host,
		transport: &http.Transport{
			Proxy:                 nil, // the environment does not divert partners' requests
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: c.Timeout,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
			// Bodies pass as they are, neither asked for in gzip nor inflated.
			DisableCompression: true,
			// One upstream, near by: as many idle connections as a busy sidecar has
			// requests at once, each about 8 KiB of buffers.
			MaxIdleConns:           256,
			MaxIdleConnsPerHost:    256,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

// retire drops the idle connections, and from now on each one that becomes so.
func (u *upstream) retire() {
	u.retired.Store(true)
	u.transport.CloseIdleConnections()
}

// rest is called when a request has ended.
func (u *upstream) rest() {
	if u.retired.Load() {
		u.transport.CloseIdleConnections()
	}
}

// forward sends the granted request to its API's upstream and the answer back.
// The decision has been taken: nothing here asks whether, only how.
func (p *Proxy) forward(x *exchange) {
	up := p.upstreams[x.decision.API]
	defer up.rest()
	reverse := httputil.ReverseProxy{
		Transport:  up.transport,
		BufferPool: buffers,
		ErrorLog:   p.errorLog,
		Rewrite: func(pr *httputil.ProxyRequest) {
			out := pr.Out
			// What was matched is what is forwarded: the same path bytes, the same
			// query bytes, the same host.
			out.URL.Scheme, out.URL.Host, out.URL.User = up.scheme, up.host, nil
			out.URL.RawQuery = pr.In.URL.RawQuery
			out.Host = pr.In.Host
			out.Trailer = nil // a field after the body would come too late to be judged
			p.fields.clean(out.Header)
			delete(out.Header, "Expect") // answered here, now that the request may pass
			if x.assertion != "" {
				delete(out.Header, "Authorization") // the assertion is there in its place
			}
			p.fields.identify(out.Header, x)
			if out.Body != nil {
				// Without the writer: the transport reads from a goroutine of its
				// own, which must not touch the answer.
				out.Body = http.MaxBytesReader(nil, &stallingBody{out.Body, x}, p.bodyBytes)
			}
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			x.failure, x.detail = x.classify(err), err
			if x.failure == clientClosed {
				// Nobody is there to answer, or somebody who only reads: saying
				// nothing would be taken for 200.
				panic(http.ErrAbortHandler)
			}
			kind := failures[x.failure]
			write(x, kind.status, body{Error: codes[kind.status], Description: kind.description, Reason: kind.label, RequestID: x.id})
		},
	}
	if x.unread() {
		// The upstream may answer before it has read the body. Otherwise net/http
		// holds that answer back until the client has sent the rest.
		_ = x.control.EnableFullDuplex()
	}
	reverse.ServeHTTP(x, x.request)
	p.fields.cleanTrailers(x.Header()) // which ReverseProxy adds last
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
	case isTLS(err):
		return upstreamTLS
	case errors.As(err, &timeout) && timeout.Timeout():
		return upstreamTimeout
	default:
		return upstreamReset
	}
}

func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	return errors.As(err, &verification) || errors.As(err, &alert) || errors.As(err, &record)
}

// brokenOff tells why an answer ended in the middle.
func brokenOff(x *exchange) failure {
	if x.deaf || x.request.Context().Err() != nil {
		return clientClosed
	}
	return upstreamReset
}

// buffers lends ReverseProxy the 32 KiB it copies each answer through.
var buffers = &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte  { return b.pool.Get().(*[32 << 10]byte)[:] }
func (b *bufferPool) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

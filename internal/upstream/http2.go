package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
)

// An http2Transport sends requests over HTTP/2, with net/http.
type http2Transport struct {
	*http.Transport
	scheme, host string // in the URL of each request
}

func (from madeFrom) newHTTP2(settings *tls.Config) *http2Transport {
	c := from.settings
	var protocols http.Protocols
	protocols.SetHTTP2(c.Protocol == config.H2)
	protocols.SetUnencryptedHTTP2(c.Protocol == config.H2C)
	if c.Protocol == config.H2 {
		settings.VerifyConnection = onlyHTTP2
	}
	t := &http2Transport{scheme: c.URL.Scheme, host: c.URL.Host, Transport: &http.Transport{
		Proxy:                 nil, // HTTPS_PROXY of the environment must not divert partners' requests
		DialContext:           from.dial,
		TLSHandshakeTimeout:   connectTimeout,
		ResponseHeaderTimeout: c.Timeout,
		TLSClientConfig:       settings,
		Protocols:             &protocols,
		HTTP2: &http.HTTP2Config{
			// The gate buffers at most 256 KiB of each response for a slow client. The window of the
			// connection stays large, so that many slow clients do not stop the other streams on the
			// connection.
			MaxReceiveBufferPerStream: 256 << 10,
			SendPingTimeout:           30 * time.Second, // detects a server that no longer responds; for HTTP/1.1, TCP keep-alives do so
			WriteByteTimeout:          30 * time.Second,
		},
		// The gate forwards bodies unchanged: it neither requests gzip nor inflates responses.
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        90 * time.Second, // an HTTP/2 server announces the end of a connection
		MaxResponseHeaderBytes: headBytes,
	}}
	if c.URL.Socket() != "" {
		t.scheme, t.host = "http", "localhost" // never resolved, because dial ignores the address
	}
	return t
}

// RoundTrip sends r.
func (t *http2Transport) RoundTrip(ctx context.Context, r *Request) (*Response, error) {
	// The transport calls Got1xxResponse on another goroutine, and RoundTrip may return earlier when ctx ends.
	var mu sync.Mutex
	returned := false
	if r.Informer != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
				mu.Lock()
				defer mu.Unlock()
				if returned {
					return nil
				}
				return r.Informer.Inform(status, fieldsOf(http.Header(header)))
			},
		})
	}
	answer, err := t.Transport.RoundTrip(t.request(ctx, r)) //nolint:bodyclose // the body becomes Response.Body
	mu.Lock()
	returned = true
	mu.Unlock()
	if err != nil {
		return nil, err
	}
	announced := http1.UntilClose
	if n, err := strconv.ParseUint(answer.Header.Get("Content-Length"), 10, 63); err == nil && answer.StatusCode != http.StatusNoContent {
		announced = int64(n)
	}
	head := http1.Response{Status: answer.StatusCode, Length: max(answer.ContentLength, http1.Chunked)}
	return &Response{
		Status: head.Status, Fields: fieldsOf(answer.Header), Length: head.BodyLength(r.Method), Announced: announced,
		Body: answer.Body, Trailer: func() []http1.Field { return fieldsOf(answer.Trailer) },
	}, nil
}

// request returns r as a request of net/http. In the URL, Opaque keeps the bytes of the path.
func (t *http2Transport) request(ctx context.Context, r *Request) *http.Request {
	path, query, hasQuery := strings.Cut(r.Target, "?")
	out := (&http.Request{
		Method: r.Method, Host: r.Host, ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, len(r.Fields)+1), Body: r.Body, ContentLength: r.Length,
		URL: &url.URL{Scheme: t.scheme, Host: t.host, Opaque: path, RawQuery: query, ForceQuery: hasQuery && query == ""},
	}).WithContext(ctx)
	for _, f := range r.Fields {
		out.Header.Add(f.Name, f.Value)
	}
	if _, named := out.Header["User-Agent"]; !named {
		out.Header["User-Agent"] = nil // otherwise net/http sends its own
	}
	if r.Trailers {
		out.Header.Set("Te", "trailers")
	}
	return out
}

// fieldsOf returns the end-to-end fields of h.
func fieldsOf(h http.Header) []http1.Field {
	fields := make([]http1.Field, 0, len(h)+2) // the gate adds fields
	for name, values := range h {
		for _, value := range values {
			fields = append(fields, http1.Field{Name: name, Value: value})
		}
	}
	return endToEnd(fields[:0], fields)
}

var errNoHTTP2 = errors.New("the upstream does not speak HTTP/2")

// onlyHTTP2 returns an error, which ends the handshake, if the server does not choose h2 by ALPN.
// Without this check, net/http would use HTTP/1.1 with such a server.
func onlyHTTP2(state tls.ConnectionState) error {
	if state.NegotiatedProtocol != "h2" {
		return errNoHTTP2
	}
	return nil
}

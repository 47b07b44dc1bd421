package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/tallygate/tallygate/internal/http1"
)

// A standardTransport sends requests over HTTP/2, with net/http.
type standardTransport struct {
	*http.Transport
	scheme, host string // in the URL of each request
}

// RoundTrip sends r.
func (u *standardTransport) RoundTrip(ctx context.Context, r *Request) (*Response, error) {
	// The transport calls Got1xxResponse on another goroutine, even after RoundTrip has returned.
	var mu sync.Mutex
	returned := false
	if r.Informational != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
				mu.Lock()
				defer mu.Unlock()
				if returned {
					return nil
				}
				return r.Informational(status, fieldsOf(http.Header(header)))
			},
		})
	}
	answer, err := u.Transport.RoundTrip(u.request(ctx, r)) //nolint:bodyclose // the body becomes Response.Body
	mu.Lock()
	returned = true
	mu.Unlock()
	if err != nil {
		return nil, err
	}
	switching := answer.StatusCode == http.StatusSwitchingProtocols
	response := &Response{Status: answer.StatusCode, Protocol: answer.Header.Get("Upgrade"), Body: answer.Body, Length: answer.ContentLength}
	if response.Length < 0 {
		response.Length = http1.Chunked
	}
	if switching {
		tunnel, ok := answer.Body.(io.ReadWriteCloser)
		if !ok {
			_ = answer.Body.Close()
			return nil, errNoTunnel
		}
		response.Tunnel = tunnel
	}
	response.Announced = announced(answer)
	response.Fields = fieldsOf(answer.Header)
	response.Trailer = func() []http1.Field { return fieldsOf(answer.Trailer) }
	return response, nil
}

var errNoTunnel = errors.New("the upstream switched protocols on a connection that cannot be taken over")

// hasOption reports whether Connection names name.
func hasOption(h http.Header, name string) bool {
	return http1.HasToken([]http1.Field{{Name: "Connection", Value: strings.Join(h["Connection"], ",")}}, "Connection", name)
}

// announced returns the Content-Length that the header of answer has, or http1.UntilClose.
func announced(answer *http.Response) int64 {
	n, err := strconv.ParseUint(answer.Header.Get("Content-Length"), 10, 63)
	if err != nil {
		return http1.UntilClose
	}
	return int64(n)
}

// request returns r as a request of net/http.
func (u *standardTransport) request(ctx context.Context, r *Request) *http.Request {
	path, query, hasQuery := strings.Cut(r.Target, "?")
	target := &url.URL{Scheme: u.scheme, Host: u.host, RawQuery: query, ForceQuery: hasQuery && query == ""}
	if decoded, err := url.PathUnescape(path); err == nil {
		target.Path, target.RawPath = decoded, path
	} else {
		target.Opaque = r.Target // package policy has refused such a path
	}
	out := (&http.Request{
		Method: r.Method, URL: target, Host: r.Host, ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, len(r.Fields)+1),
		Body: r.Body, ContentLength: r.Length, Close: r.Close,
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
	if r.Upgrade != "" {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", r.Upgrade)
	}
	return out
}

// fieldsOf returns the fields of h without the fields that frame the message or name the connection.
func fieldsOf(h http.Header) []http1.Field {
	fields := make([]http1.Field, 0, len(h))
	for name, values := range h {
		if http1.IsHopByHop(name) || hasOption(h, name) {
			continue
		}
		for _, value := range values {
			fields = append(fields, http1.Field{Name: name, Value: value})
		}
	}
	return fields
}

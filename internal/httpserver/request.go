package httpserver

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/tallygate/tallygate/internal/http1"
)

// An exchange is a request with its response. A single allocation holds all values that every request needs.
type exchange struct {
	request  http.Request
	url      url.URL
	response response
	body     body
	values   [12]string // the values of the header fields
}

// blankExchange returns an exchange without a request.
func (s *session) blankExchange() *exchange {
	x := &exchange{request: s.blank}
	x.request.URL, x.request.Header = &x.url, http.Header{}
	x.response.session, x.response.minor = s, 1
	s.body, s.response = nil, &x.response
	return x
}

// newExchange returns the exchange for the request with this head. An error is an [http1.Error].
func (s *session) newExchange(head *http1.Request) (*exchange, error) {
	x := &exchange{request: s.blank}
	r := &x.request
	r.Method, r.RequestURI, r.Host, r.ProtoMinor = head.Method, head.Target, head.Host, head.Minor
	r.Proto = "HTTP/1.1"
	if head.Minor == 0 {
		r.Proto = "HTTP/1.0"
	}
	if err := x.parseTarget(); err != nil {
		return nil, err
	}
	r.Close = !http1.Persistent(head.Minor, head.Fields)
	x.response = response{session: s, method: r.Method, minor: head.Minor, mustClose: r.Close}
	s.response = &x.response
	x.setHeader(head.Fields)
	return x, x.setBody(s, head)
}

// setHeader sets the header map without Host, as net/http does. setBody removes Transfer-Encoding and Trailer
// from the map.
func (x *exchange) setHeader(fields []http1.Field) {
	h := make(http.Header, len(fields))
	values := x.values[:]
	if len(fields) > len(values) {
		values = make([]string, len(fields))
	}
	for i := range fields {
		f := &fields[i]
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if name == "Host" {
			continue
		}
		if earlier := h[name]; earlier != nil {
			h[name] = append(earlier, f.Value)
			continue
		}
		values[0] = f.Value
		h[name], values = values[:1:1], values[1:]
	}
	x.request.Header = h
}

// setBody sets the body of the request, its length and its transfer coding.
func (x *exchange) setBody(s *session, head *http1.Request) error {
	r := &x.request
	s.body = nil
	r.ContentLength = head.Length
	expected, err := expectsContinue(r)
	if err != nil {
		return err
	}
	if head.Length == 0 {
		return nil
	}
	if head.Length == http1.Chunked {
		r.TransferEncoding = []string{"chunked"}
		delete(r.Header, "Transfer-Encoding")
		delete(r.Header, "Trailer")
		if err := s.checkChunks(); err != nil {
			return err
		}
	}
	s.body, r.Body = &x.body, &x.body
	x.body.session, x.body.length, x.body.expected = s, head.Length, expected
	x.body.content.Reset(s.In, head.Length)
	return nil
}

// checkChunks checks the part of a chunked body that has arrived together with the head. So a request with a
// fault in this part is refused before the handler runs. A fault in a later part is an error of Read.
func (s *session) checkChunks() error {
	received := s.Pending()
	b := http1.NewBuffers(bytes.NewReader(received), nil)
	defer b.Release()
	var content http1.Body
	content.Reset(b.In, http1.Chunked)
	_, err := io.Copy(io.Discard, &content)
	var fault http1.Error
	if errors.As(err, &fault) {
		return fault
	}
	return nil
}

// bodyRead reports whether the body of the request has been read to its end.
func (s *session) bodyRead() bool { return s.body == nil || s.body.whole.Load() }

// expectsContinue reports whether the client waits for 100 Continue before it sends the body. Any other
// expectation cannot be met (RFC 9110 section 10.1.1).
func expectsContinue(r *http.Request) (bool, error) {
	values := r.Header["Expect"]
	switch {
	case len(values) == 0:
		return false, nil
	case len(values) > 1 || !strings.EqualFold(values[0], "100-continue"):
		return false, http1.ErrExpectation
	}
	return r.ProtoMinor == 1, nil
}

// parseTarget parses the request target as net/http does.
func (x *exchange) parseTarget() error {
	r := &x.request
	target := r.RequestURI
	authority := r.Method == http.MethodConnect && target[0] != '/' // RFC 9112 section 3.2.3
	path, query, _ := strings.Cut(target, "?")
	if !authority && isPlainPath(path) && query != "" {
		x.url.Path, x.url.RawQuery = path, query
		r.URL = &x.url
		return nil
	}
	if !authority && isPlainPath(target) {
		x.url.Path, r.URL = target, &x.url
		return nil
	}
	if authority {
		target = "http://" + target
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return http1.ErrTarget
	}
	if authority {
		u.Scheme = ""
	}
	if u.Host != "" { // absolute-form, RFC 9112 section 3.2.2
		r.Host = u.Host
	}
	r.URL = u
	return nil
}

// isPlainPath reports whether path needs no decoding.
func isPlainPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == '-', c == '_', c == '.', c == '~':
		default:
			return false
		}
	}
	return true
}

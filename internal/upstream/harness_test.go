package upstream

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// A server accepts real connections. A connHandler writes its answers, which need not be valid HTTP.
type server struct {
	listener    net.Listener
	connections atomic.Int64 // accepted connections
	requests    atomic.Int64 // requests that arrived whole
	mu          sync.Mutex
	open        map[net.Conn]bool
	wait        sync.WaitGroup
}

// A connHandler serves one connection, which is closed when the connHandler returns.
type connHandler func(s *server, conn net.Conn, in *bufio.Reader)

// listen serves, over TLS where settings are given, until the test ends.
func listen(t testing.TB, settings *tls.Config, serve connHandler) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, settings, serve)
}

func serveOn(t testing.TB, l net.Listener, settings *tls.Config, serve connHandler) *server {
	s := &server{listener: l, open: map[net.Conn]bool{}}
	if settings != nil {
		l = tls.NewListener(l, settings)
	}
	s.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.connections.Add(1)
			s.mu.Lock()
			s.open[conn] = true
			s.mu.Unlock()
			s.wait.Go(func() {
				serve(s, conn, bufio.NewReader(conn))
				_ = conn.Close()
				s.mu.Lock()
				delete(s.open, conn)
				s.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = s.listener.Close()
		s.mu.Lock()
		for conn := range s.open {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.wait.Wait()
	})
	return s
}

// next reads a whole request, nil at the end.
func (s *server) next(in *bufio.Reader) *http.Request {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil
	}
	s.requests.Add(1)
	return r
}

// answering writes the same bytes for each request, and hangs up after them or not.
func answering(bytes string, hangUp bool) connHandler {
	return func(s *server, conn net.Conn, in *bufio.Reader) {
		for s.next(in) != nil {
			if _, err := io.WriteString(conn, bytes); err != nil || hangUp {
				return
			}
		}
	}
}

const (
	fine   = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
	limit  = headBytes
	enough = 5 * time.Second // longer than any test takes
)

// A standardClient is a Client with the methods of an http.RoundTripper, so that tests can compare it with
// net/http.
type standardClient struct{ *Client }

func (c standardClient) RoundTrip(r *http.Request) (*http.Response, error) {
	request := &Request{Method: r.Method, Target: r.URL.RequestURI(), Host: cmp.Or(r.Host, r.URL.Host), Body: r.Body, Length: r.ContentLength, Close: r.Close, Upgrade: r.Header.Get("Upgrade")}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			if value != "" && !http1.IsHopByHop(name) {
				request.Fields = append(request.Fields, http1.Field{Name: name, Value: value})
			}
		}
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.Got1xxResponse != nil {
		request.Informer = informer(func(status int, fields []http1.Field) error {
			return trace.Got1xxResponse(status, textproto.MIMEHeader(header(fields)))
		})
	}
	response, err := c.Client.RoundTrip(r.Context(), request)
	if err != nil {
		return nil, err
	}
	answer := &http.Response{StatusCode: response.Status, Header: header(response.Fields), Body: response.Body, ContentLength: response.Length}
	switch {
	case response.Announced >= 0:
		answer.ContentLength = response.Announced
	case r.Method == http.MethodHead:
		answer.ContentLength = -1
	}
	answer.Body = &trailing{response.Body, response, answer}
	return answer, nil
}

// A trailing body sets the trailer of its response at the end.
type trailing struct {
	io.ReadCloser
	from *Response
	to   *http.Response
}

func (t *trailing) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if isEnd(err) {
		t.to.Trailer = header(t.from.Trailer())
	}
	return n, err
}

func header(fields []http1.Field) http.Header {
	h := http.Header{}
	for _, f := range fields {
		h.Add(f.Name, f.Value)
	}
	return h
}

// clientOf returns a client for s.
func clientOf(t testing.TB, s *server, settings *tls.Config, timeout time.Duration) standardClient {
	c := standardClient{&Client{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, s.listener.Addr().Network(), s.listener.Addr().String())
		},
		TLS: settings, BodyWait: time.Minute, HandshakeTimeout: timeout, HeaderTimeout: timeout,
		MaxIdle: 8, IdleTimeout: time.Minute, Unasked: func() {},
	}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// An outcome is the result of a round trip for the caller.
type outcome struct {
	Status   int
	Length   int64
	Header   http.Header
	Body     string
	Trailer  http.Header
	Informed []int // the status codes of informational answers
	Err      string
}

// ask sends r and reads its answer to the end.
func ask(transport http.RoundTripper, r *http.Request) (o outcome) {
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		o.Informed = append(o.Informed, code)
		return nil
	}}
	answer, err := transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		o.Err = class(err)
		return o
	}
	body, err := io.ReadAll(answer.Body)
	o.Err = class(err)
	_ = answer.Body.Close()
	o.Status, o.Length, o.Header, o.Body, o.Trailer = answer.StatusCode, answer.ContentLength, answer.Header, string(body), answer.Trailer
	return o
}

// class returns the class of an error, as package proxy distinguishes them.
func class(err error) string {
	var (
		op      *net.OpError
		timeout net.Error
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
	)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &op) && op.Op == "dial":
		return "dial"
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &op) && op.Op == "remote error":
		return "tls"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "broken"
}

// request returns a request whose body has a type that net/http does not know.
func request(t testing.TB, method, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://api.example.test/accounts/7?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Accept"], r.Header["User-Agent"] = []string{"application/json"}, []string{""}
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(&slowReader{text: body}), int64(len(body))
	}
	return r
}

// A slowReader gives 100 bytes at a time, and waits before each.
type slowReader struct {
	text string
	wait time.Duration
}

func (r *slowReader) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, io.EOF
	}
	time.Sleep(r.wait)
	n := copy(p, r.text[:min(len(r.text), 100)])
	r.text = r.text[n:]
	return n, nil
}

// secure returns settings for a server and its client.
func secure() (server, client *tls.Config) {
	pair := testpki.SelfSigned("upstream", testpki.DNS("api.example.test"))
	client = &tls.Config{RootCAs: testpki.Pool(pair), ServerName: "api.example.test"}
	return &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}, client
}

// An informer is a function that implements Informer.
type informer func(status int, fields []http1.Field) error

func (f informer) Inform(status int, fields []http1.Field) error { return f(status, fields) }

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/http1"
)

// A closing body records whether it was closed.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error {
	c.closed.Store(true)
	return nil
}

// impatient returns a client that waits only briefly for a body.
func impatient(t testing.TB, s *server) standardClient {
	direct := clientOf(t, s, nil, enough)
	direct.BodyWait = 50 * time.Millisecond
	return direct
}

// A fault of a request's body is a fault of the client. The server never gets a whole request whose
// body differs from its announced length.
func TestRequestBodies(t *testing.T) {
	s := listen(t, nil, answering(fine, false))
	transport := clientOf(t, s, nil, enough)
	for _, tt := range []struct {
		name   string
		body   io.Reader
		length int64
		want   error // any, if it is io.EOF
	}{
		{"as announced", strings.NewReader("hello"), 5, nil},
		{"its end comes with it", iotest.DataErrReader(strings.NewReader("hello")), 5, nil},
		{"byte by byte", iotest.OneByteReader(strings.NewReader("hello")), 5, nil},
		{"the longest", strings.NewReader(strings.Repeat("x", longestBody)), longestBody, nil},
		{"too short", strings.NewReader("hell"), 5, io.ErrUnexpectedEOF},
		{"too long", strings.NewReader("hello!"), 5, errLonger},
		{"much too long", strings.NewReader(strings.Repeat("x", 1<<20)), 5, errLonger},
		{"broken", iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("hello"))), 5, iotest.ErrTimeout},
	} {
		before := s.requests.Load()
		r, body := request(t, "POST", ""), &closing{Reader: tt.body}
		r.Body, r.ContentLength = body, tt.length
		answer, err := transport.RoundTrip(r)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
		if reached := s.requests.Load() > before; reached != (tt.want == nil) || !body.closed.Load() {
			t.Errorf("%s: reached the server: %v, body closed: %v", tt.name, reached, body.closed.Load())
		}
	}
}

// The client forwards the pieces of a slow body as they arrive: the server gets the request at
// once, may respond before the end of the body, and gets every byte.
func TestLateBody(t *testing.T) {
	t.Run("early answer", func(t *testing.T) {
		s := listen(t, nil, func(_ *server, conn net.Conn, in *bufio.Reader) {
			r, err := http.ReadRequest(in)
			if err != nil {
				t.Error(err)
				return
			}
			begin := make([]byte, 3)
			if _, err := io.ReadFull(r.Body, begin); err != nil || string(begin) != "hel" {
				t.Errorf("the body begins with %q, %v", begin, err)
			}
			_, _ = io.WriteString(conn, fine)
			_, _ = in.ReadByte()
		})
		body, rest := io.Pipe()
		defer func() { _ = rest.Close() }()
		go func() { _, _ = io.WriteString(rest, "hel") }()
		r := request(t, "POST", "")
		r.Body, r.ContentLength = body, 5
		if o := ask(impatient(t, s), r); o.Body != "fine" {
			t.Errorf("answered %+v", o)
		}
	})
	t.Run("every byte", func(t *testing.T) {
		text := strings.Repeat("0123456789", 200)
		received := make(chan string, 1)
		s := listen(t, nil, func(_ *server, conn net.Conn, in *bufio.Reader) {
			if r, err := http.ReadRequest(in); err == nil {
				body, _ := io.ReadAll(r.Body)
				received <- string(body)
				_, _ = io.WriteString(conn, fine)
			}
		})
		r := request(t, "POST", text)
		r.Body = io.NopCloser(&slowReader{text, 5 * time.Millisecond})
		if o := ask(impatient(t, s), r); o.Body != "fine" {
			t.Errorf("answered %+v", o)
		}
		if got := <-received; got != text {
			t.Errorf("the server got %q", got)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		s := listen(t, nil, answering(fine, false))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		body, rest := io.Pipe()
		defer func() { _ = rest.Close() }()
		r := request(t, "POST", "").WithContext(ctx)
		r.Body, r.ContentLength = body, 5
		transport := impatient(t, s)
		transport.BodyWait = time.Minute
		if o := ask(transport, r); o.Err != "canceled" || s.requests.Load() != 0 {
			t.Errorf("answered %+v", o)
		}
		if _, err := rest.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the body was left open: %v", err)
		}
	})
}

// A refusing connection takes only the beginning of a request after the server has responded to it.
type refusing struct {
	*net.TCPConn
	begun    bool
	answered chan struct{}
}

func (c *refusing) Write(p []byte) (int, error) {
	if c.begun {
		<-c.answered
		return 0, syscall.EPIPE
	}
	c.begun = true
	return c.TCPConn.Write(p)
}

// A server responds and closes the connection while the body is being sent.
func TestEarlyAnswer(t *testing.T) {
	answered := make(chan struct{}, 1)
	s := listen(t, nil, func(_ *server, conn net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err == nil { // its header
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nfine")
			answered <- struct{}{}
		}
	})
	direct := clientOf(t, s, nil, enough)
	dial := direct.Dial
	direct.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		return &refusing{TCPConn: conn.(*net.TCPConn), answered: answered}, err
	}
	r := request(t, "POST", strings.Repeat("x", longestBody))
	if o := ask(direct, r); o.Status != http.StatusRequestEntityTooLarge || o.Body != "fine" || len(direct.pool.held()) > 0 {
		t.Errorf("answered %+v; %d connections are kept", o, len(direct.pool.held()))
	}
}

// A request that the server could read as another request is not sent.
func TestInvalidRequest(t *testing.T) {
	s := listen(t, nil, answering(fine, false))
	direct := clientOf(t, s, nil, enough)
	for name, edit := range map[string]func(*Request){
		"a body that is none": func(r *Request) { r.Length = 5 },
		"CONNECT":             func(r *Request) { r.Method = http.MethodConnect },
		"no method":           func(r *Request) { r.Method = "" },
		"a bad method":        func(r *Request) { r.Method = "GET / HTTP/1.1\r\nX:" },
		"no target":           func(r *Request) { r.Target = "" },
		"a space":             func(r *Request) { r.Target = "/a HTTP/1.1" },
		"a line":              func(r *Request) { r.Target = "/a\r\nX:y" },
		"a bad host":          func(r *Request) { r.Host = "a\r\nX: y" },
		"a bad protocol":      func(r *Request) { r.Upgrade = "a\r\nX: y" },
		"a bad name":          func(r *Request) { r.Fields[0].Name = "X: y\r\nZ" },
		"an empty name":       func(r *Request) { r.Fields[0].Name = "" },
		"a bad value":         func(r *Request) { r.Fields[0].Value = "y\r\nZ: a" },
		"a bare LF":           func(r *Request) { r.Fields[0].Value = "y\nZ: a" },
		"a NUL":               func(r *Request) { r.Fields[0].Value = "\x00" },
		"a length":            func(r *Request) { r.Fields[0] = http1.Field{Name: "content-length", Value: "5"} },
		"chunks":              func(r *Request) { r.Fields[0] = http1.Field{Name: "Transfer-Encoding", Value: "chunked"} },
		"Connection":          func(r *Request) { r.Fields[0] = http1.Field{Name: "Connection", Value: "X"} },
		"a second host":       func(r *Request) { r.Fields[0] = http1.Field{Name: "HOST", Value: "other.example.test"} },
	} {
		r := &Request{Method: "GET", Target: "/", Host: "api.example.test", Fields: []http1.Field{{Name: "X", Value: "y"}}}
		edit(r)
		if response, err := direct.Client.RoundTrip(t.Context(), r); err == nil || s.connections.Load() > 0 {
			t.Errorf("%s: got %+v, %v, and %d connections, want an error and no connection", name, response, err, s.connections.Load())
		}
	}
}

// The server gets the bytes that the caller has, in their order and case.
func TestRequestOnTheWire(t *testing.T) {
	received := make(chan string, 1)
	s := listen(t, nil, func(_ *server, conn net.Conn, in *bufio.Reader) {
		var wire bytes.Buffer
		r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(in, &wire)))
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		received <- wire.String()
	})
	direct := clientOf(t, s, nil, enough)
	fields := []http1.Field{{Name: "x-b", Value: "1"}, {Name: "A", Value: ""}, {Name: "X-B", Value: "\xff 2"}, {Name: "b_c", Value: "3"}}
	const begin, all = " /a%2Fb?c=%20 HTTP/1.1\r\nHost: api.example.test:8443\r\n", "x-b: 1\r\nA: \r\nX-B: \xff 2\r\nb_c: 3\r\n"
	long := strings.Repeat("x", longestBody+1)
	for _, tt := range []struct {
		name string
		r    *Request
		body string
		want string // after the fields
	}{
		{"GET", &Request{Method: "GET"}, "", "\r\n"},
		{"close", &Request{Method: "GET", Close: true}, "", "Connection: close\r\n\r\n"},
		{"trailers", &Request{Method: "GET", Trailers: true}, "", "TE: trailers\r\nConnection: TE\r\n\r\n"},
		{"both", &Request{Method: "GET", Trailers: true, Close: true}, "", "TE: trailers\r\nConnection: close, TE\r\n\r\n"},
		{"upgrade", &Request{Method: "GET", Upgrade: "websocket"}, "", "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
		{"empty POST", &Request{Method: "POST"}, "", "Content-Length: 0\r\n\r\n"},
		{"empty DELETE", &Request{Method: "DELETE"}, "", "\r\n"},
		{"POST", &Request{Method: "POST", Length: 5}, "hello", "Content-Length: 5\r\n\r\nhello"},
		{"arrived", &Request{Method: "POST", Length: 5, Arrived: true}, "hello", "Content-Length: 5\r\n\r\nhello"},
		{"long", &Request{Method: "PUT", Length: longestBody + 1}, long, "Content-Length: 16385\r\n\r\n" + long},
		{"chunks", &Request{Method: "PUT", Length: http1.Chunked}, "hello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	} {
		r := tt.r
		r.Target, r.Host, r.Fields = "/a%2Fb?c=%20", "api.example.test:8443", fields
		if tt.body != "" {
			r.Body = io.NopCloser(strings.NewReader(tt.body))
		}
		response, err := direct.Client.RoundTrip(t.Context(), r)
		if err != nil || response.Status != 204 {
			t.Fatalf("%s: got %+v, %v, want status 204", tt.name, response, err)
		}
		if diff := cmp.Diff(r.Method+begin+all+tt.want, <-received); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

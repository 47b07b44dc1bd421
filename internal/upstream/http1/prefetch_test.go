package http1

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
)

// A closing tells whether it was closed.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error {
	c.closed.Store(true)
	return nil
}

// both is http.Transport behind ours, which has little patience.
func both(t testing.TB, s *server) *Transport {
	direct, general := transports(t, s, nil, header)
	direct.Fallback = general
	direct.BodyWait = 50 * time.Millisecond
	return direct
}

// What a request's body does is the client's doing. The server hears of no request whose
// body is not what was announced.
func TestRequestBodies(t *testing.T) {
	s := listen(t, nil, answering(fine, false))
	transport, _ := transports(t, s, nil, header)
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

// A body that does not come at once passes as it comes: the server hears of the request,
// may answer before it has all of it, and gets every byte.
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
		if o := ask(both(t, s), r); o.Body != "fine" {
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
		if o := ask(both(t, s), r); o.Body != "fine" {
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
		transport := both(t, s)
		transport.BodyWait = time.Minute
		if o := ask(transport, r); o.Err != "canceled" || s.requests.Load() != 0 {
			t.Errorf("answered %+v", o)
		}
		if _, err := rest.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the body was left open: %v", err)
		}
	})
}

// A refusing is a connection that takes the beginning of a request and no more, once the
// server has answered that.
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

// A server that has seen enough says so and closes, while the body is being sent.
func TestEarlyAnswer(t *testing.T) {
	answered := make(chan struct{}, 1)
	s := listen(t, nil, func(_ *server, conn net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err == nil { // its header
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nfine")
			answered <- struct{}{}
		}
	})
	direct, _ := transports(t, s, nil, header)
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

// elsewhere notes that it was asked.
type elsewhere struct{ asked bool }

func (e *elsewhere) RoundTrip(*http.Request) (*http.Response, error) {
	e.asked = true
	return nil, errors.New("elsewhere")
}

func (e *elsewhere) CloseIdleConnections() {}

// What is not for this package is left alone.
func TestOthers(t *testing.T) {
	s := listen(t, nil, answering(fine, false))
	direct, _ := transports(t, s, nil, header)
	body := func(length int64) func(*http.Request) {
		return func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("hello")), length }
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = []string{value} }
	}
	for name, edit := range map[string]func(*http.Request){
		"a long body":         body(longestBody + 1),
		"an unknown length":   body(-1),
		"an undeclared body":  body(0),
		"a body that is none": func(r *http.Request) { r.ContentLength = 5 },
		"chunks":              func(r *http.Request) { body(5)(r); r.TransferEncoding = []string{"chunked"} },
		"trailers":            func(r *http.Request) { body(5)(r); r.Trailer = http.Header{"X": nil} },
		"Expect":              set("Expect", "100-continue"),
		"Upgrade":             set("Upgrade", "websocket"),
		"Connection":          set("Connection", "Upgrade"),
		"CONNECT":             func(r *http.Request) { r.Method = http.MethodConnect },
		"no method":           func(r *http.Request) { r.Method = "" },
		"a bad method":        func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nX:" },
		"a bad name":          set("X: y\r\nZ", "a"),
		"an empty name":       set("", "a"),
		"a bad value":         set("X", "y\r\nZ: a"),
		"a NUL":               set("X", "\x00"),
		"no URL":              func(r *http.Request) { r.URL = nil },
		"no host":             func(r *http.Request) { r.URL.Host = "" },
		"no header":           func(r *http.Request) { r.Header = nil },
	} {
		others := &elsewhere{}
		direct.Fallback = others
		r := request(t, "GET", "")
		edit(r)
		if _, err := direct.RoundTrip(r); err == nil || !others.asked || s.connections.Load() > 0 { //nolint:bodyclose // there is no body
			t.Errorf("%s: %v, left to others: %v", name, err, others.asked)
		}
	}
}

// The server sees the same bytes through both.
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
	direct, general := transports(t, s, nil, header)
	for name, edit := range map[string]func(*http.Request){
		"plain":     func(*http.Request) {},
		"no fields": func(r *http.Request) { r.Header = http.Header{} },
		"many": func(r *http.Request) {
			r.Header = http.Header{"X": {"1", "2"}, "b_c": {" d "}, "A": {""}, "User-Agent": {"ledger/1.0"}}
		},
		"close":   func(r *http.Request) { r.Close = true },
		"host":    func(r *http.Request) { r.Host = "other.example.test:8443" },
		"escapes": func(r *http.Request) { r.URL.RawPath, r.URL.Path = "/a%2Fb", "/a/b" },
		"a star":  func(r *http.Request) { r.Method, r.URL.Opaque, r.URL.RawQuery = "OPTIONS", "*", "" },
		"lengths": func(r *http.Request) {
			r.Header["Content-Length"], r.Header["Transfer-Encoding"] = []string{"7"}, []string{"chunked"}
		},
		"empty POST": func(r *http.Request) { r.Method = "POST" },
		"POST": func(r *http.Request) {
			r.Method, r.ContentLength, r.Body = "POST", 5, io.NopCloser(strings.NewReader("hello"))
		},
		"long POST": func(r *http.Request) {
			r.Method, r.ContentLength, r.Body = "POST", longestBody, io.NopCloser(strings.NewReader(strings.Repeat("x", longestBody)))
		},
	} {
		var wires []string
		for _, transport := range []http.RoundTripper{general, direct} {
			r := request(t, "GET", "")
			edit(r)
			if o := ask(transport, r); o.Status != 204 {
				t.Fatalf("%s: %+v", name, o)
			}
			wires = append(wires, <-received)
		}
		if diff := cmp.Diff(wires[0], wires[1]); diff != "" {
			t.Errorf("%s (-http.Transport +ours):\n%s", name, diff)
		}
	}
}

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
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// late is longer than a request's context may stay unwatched.
const late = 2 * unwatched

// A counted context counts the calls that wait for its end.
type counted struct {
	context.Context
	asked atomic.Int64
}

func (c *counted) Done() <-chan struct{} {
	c.asked.Add(1)
	return c.Context.Done()
}

// A request whose response arrives at once needs no watch. Any other request needs a single watch.
func TestWatch(t *testing.T) {
	s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
		for r := s.next(in); r != nil; r = s.next(in) {
			switch r.URL.Path {
			case "/late":
				time.Sleep(late)
				_, _ = io.WriteString(conn, fine)
			case "/open":
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi")
				_, _ = in.Peek(1)
			default:
				_, _ = io.WriteString(conn, fine)
			}
		}
	})
	direct := clientOf(t, s, nil, enough)
	together(t, direct, 1)
	watches := func(path string) int64 {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		watched := &counted{Context: ctx}
		r := request(t, "GET", "").WithContext(watched)
		r.URL.Path = path
		answer, err := direct.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		n := watched.asked.Load()
		if path != "/open" {
			if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "fine" {
				t.Errorf("answered %q, %v", text, err)
			}
		}
		_ = answer.Body.Close()
		return n
	}
	gatetest.Eventually(t, "each request is watched", func() bool { return watches("/") == 0 }) // some may be slow
	if watches("/late") == 0 {
		t.Error("a slow request is not watched")
	}
	if s.connections.Load() != 1 {
		t.Errorf("%d connections", s.connections.Load())
	}
	if watches("/open") == 0 {
		t.Error("an answer that has not arrived is not watched")
	}
}

// A narrow connection writes little at a time, so that the kernel takes no more bytes than its
// buffers are meant for.
type narrow struct{ *net.TCPConn }

func (c narrow) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = c.TCPConn.Write(p[n:min(n+512, len(p))])
		n += more
	}
	return n, err
}

// overBoth runs a test without TLS and with it. The buffers of the sockets are small.
func overBoth(t *testing.T, timeout time.Duration, serve connHandler, test func(*testing.T, *server, standardClient)) {
	t.Helper()
	settings, trusting := secure()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			offered, client := settings, trusting
			if scheme == "http" {
				offered, client = nil, nil
			}
			small := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
				_ = raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10) })
				return err
			}}
			l, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := serveOn(t, l, offered, serve)
			direct := clientOf(t, s, client, timeout)
			dial := direct.Dial
			direct.Dial = func(ctx context.Context) (net.Conn, error) {
				conn, err := dial(ctx)
				if err != nil {
					return nil, err
				}
				c := narrow{conn.(*net.TCPConn)}
				return c, c.SetWriteBuffer(8 << 10)
			}
			test(t, s, direct)
		})
	}
}

// slowly takes its time before it reads a request for /late, and sends the body of each back.
func slowly(s *server, conn net.Conn, in *bufio.Reader) {
	for {
		if begin, _ := in.Peek(len("POST /late")); bytes.HasSuffix(begin, []byte("/late")) {
			time.Sleep(late)
		}
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.requests.Add(1)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+length(string(text))+"\r\n\r\n"+string(text))
	}
}

// large is more than the sockets hold. A request gets that size by a long field.
const large = 64<<10 + longestBody

// to returns a request to path with this body; a large one where that is as long as can be.
func to(ctx context.Context, t *testing.T, path, body string) *http.Request {
	r := request(t, "POST", "").WithContext(ctx)
	r.URL.Path, r.Body, r.ContentLength = path, io.NopCloser(strings.NewReader(body)), int64(len(body))
	if len(body) == longestBody {
		r.Header["Padding"] = []string{strings.Repeat("x", large-longestBody)}
	}
	return r
}

// The end of a request's context does not affect later requests on the connection, whether the
// request was watched or not. The start of a watch does not disturb the bytes that are being sent
// and received.
func TestContextsOfBefore(t *testing.T) {
	overBoth(t, enough, slowly, func(t *testing.T, s *server, direct standardClient) {
		before := func() {}
		for _, path := range []string{"/", "/", "/late", "/late", "/", "/"} {
			for _, body := range []string{"small", strings.Repeat("0123456789abcde ", longestBody/16)} {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(late/2, before)
				if o := ask(direct, to(ctx, t, path, body)); o.Body != body || o.Err != "" {
					t.Errorf("%s: %d bytes come back, %s", path, len(o.Body), o.Err)
				}
				before = cancel
			}
		}
		before()
		if s.connections.Load() != 1 || len(direct.pool.held()) != 1 {
			t.Errorf("%d connections, of which %d are kept", s.connections.Load(), len(direct.pool.held()))
		}
	})
}

// A context that ends after the response has arrived does not truncate the response. It may only
// end the connection, at any later time.
func TestContextEndsBeforeTheBodyIsRead(t *testing.T) {
	overBoth(t, enough, slowly, func(t *testing.T, s *server, direct standardClient) {
		ctx, cancel := context.WithCancel(t.Context())
		answer, err := direct.RoundTrip(to(ctx, t, "/late", "small"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		text, err := io.ReadAll(answer.Body)
		if _ = answer.Body.Close(); err != nil || string(text) != "small" || len(direct.pool.held()) != 0 {
			t.Errorf("answered %q, %v; %d connections are kept", text, err, len(direct.pool.held()))
		}
		if o := ask(direct, to(t.Context(), t, "/", "small")); o.Body != "small" || s.connections.Load() != 2 {
			t.Errorf("the next is answered %+v, on connection %d", o, s.connections.Load())
		}
	})
}

// A request that the server does not read ends with its context too, and its connection is not reused.
func TestCancelledSend(t *testing.T) {
	why := errors.New("the decision has changed")
	for _, after := range []time.Duration{5 * time.Millisecond, late} {
		begun, cancelled, received := make(chan struct{}), make(chan struct{}), make(chan int64)
		t.Run(after.String(), func(t *testing.T) {
			overBoth(t, enough, func(s *server, conn net.Conn, in *bufio.Reader) {
				if s.connections.Load() > 1 {
					slowly(s, conn, in)
					return
				}
				_, _ = in.Peek(1)
				begun <- struct{}{}
				<-cancelled
				n, _ := io.Copy(io.Discard, in)
				received <- n
			}, func(t *testing.T, s *server, direct standardClient) {
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() {
					<-begun
					time.Sleep(after)
					cancel(why)
				}()
				r := to(ctx, t, "/", strings.Repeat("x", longestBody))
				if _, err := direct.RoundTrip(r); !errors.Is(err, why) { //nolint:bodyclose // there is no body
					t.Errorf("failed with %v", err)
				}
				if len(direct.pool.held()) != 0 {
					t.Error("the connection is kept")
				}
				cancelled <- struct{}{}
				if n := <-received; n >= large {
					t.Errorf("the server received %d bytes: nothing was in the way", n)
				}
				if o := ask(direct, to(t.Context(), t, "/", "small")); o.Body != "small" || s.connections.Load() != 2 {
					t.Errorf("the next is answered %+v, on connection %d", o, s.connections.Load())
				}
			})
		})
	}
}

// The timeout of the configuration holds for the response and for sending the request, whether the
// watch begins before the timeout or not.
func TestHeaderTimeoutIsExact(t *testing.T) {
	for _, timeout := range []time.Duration{unwatched / 2, 2 * unwatched} {
		t.Run(timeout.String(), func(t *testing.T) {
			overBoth(t, timeout, func(s *server, _ net.Conn, in *bufio.Reader) {
				if s.connections.Load() > 1 {
					time.Sleep(4 * timeout) // nothing is read from the connection
				}
				_, _ = io.Copy(io.Discard, in)
			}, func(t *testing.T, _ *server, direct standardClient) {
				for _, body := range []string{"small", strings.Repeat("x", longestBody)} {
					began := time.Now()
					if o := ask(direct, to(t.Context(), t, "/", body)); o.Err != "timeout" {
						t.Errorf("%d bytes: answered %+v", len(body), o)
					}
					if took := time.Since(began); took < timeout || took > 5*time.Second {
						t.Errorf("%d bytes: it took %s", len(body), took)
					}
				}
			})
		})
	}
}

// An error while the body is sent has a label of its own, which net/http would hide.
func TestHeaderTimeoutInTheBody(t *testing.T) {
	direct := clientOf(t, listen(t, nil, answering(fine, false)), nil, 2*unwatched)
	ours, theirs := net.Pipe() // a net.Pipe has no buffer
	defer func() { _ = theirs.Close() }()
	direct.Dial = func(context.Context) (net.Conn, error) { return ours, nil }
	read := make(chan error, 1)
	go func() {
		_, err := http.ReadRequest(bufio.NewReader(theirs)) // its header
		read <- err
	}()
	if o := ask(direct, to(t.Context(), t, "/", strings.Repeat("x", longestBody-1))); o.Err != "timeout" {
		t.Errorf("answered %+v", o)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// A response has arrived when its whole body has been received.
func TestArrived(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		arrived    bool
	}{
		{"all at once", fine, true},
		{"but for a byte", strings.TrimSuffix(fine, "e"), false},
		{"more than is read at once", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000), false},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n", true},
		{"chunks but for a byte", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r", false},
		{"chunks with a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nX: y\r\n\r\n", false},
		{"until the end", "HTTP/1.1 200 OK\r\n\r\nfine", false},
	} {
		direct := clientOf(t, listen(t, nil, answering(tt.text, false)), nil, enough)
		response, err := direct.Client.RoundTrip(t.Context(), &Request{Method: "GET", Target: "/"})
		if err != nil {
			t.Fatal(err)
		}
		if response.Arrived != tt.arrived {
			t.Errorf("%s: Arrived = %v, want %v", tt.name, response.Arrived, tt.arrived)
		}
		_ = response.Body.Close()
	}
}

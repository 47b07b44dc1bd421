package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// against runs a test with a client for a server of its own.
func against(t *testing.T, timeout time.Duration, serve connHandler, test func(*testing.T, *server, standardClient)) {
	t.Helper()
	s := listen(t, nil, serve)
	test(t, s, clientOf(t, s, nil, timeout))
}

// A request whose context ends is over, wherever it is, and its connection with it; also
// where its context was not watched yet.
func TestCancellation(t *testing.T) {
	for _, tt := range []struct{ name, said string }{
		{"before the header", ""},
		{"in the header", "HTTP/1.1 200 OK\r\nX-"},
		{"after an informational answer", "HTTP/1.1 103 Early Hints\r\n\r\n"},
		{"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine"},
		{"in the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n"},
	} {
		for _, after := range []time.Duration{5 * time.Millisecond, 2 * unwatched} {
			t.Run(fmt.Sprintf("%s, after %s", tt.name, after), func(t *testing.T) {
				t.Parallel()
				testCancellation(t, tt.said, after)
			})
		}
	}
}

func testCancellation(t *testing.T, text string, after time.Duration) {
	said, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	against(t, enough, func(s *server, conn net.Conn, in *bufio.Reader) {
		if s.connections.Load() > 1 {
			answering(fine, false)(s, conn, in)
			return
		}
		s.next(in)
		_, _ = io.WriteString(conn, text)
		said <- struct{}{}
		_, _ = in.ReadByte() // until the other end is closed
		gone <- struct{}{}
	}, func(t *testing.T, s *server, transport standardClient) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			<-said
			time.Sleep(after)
			cancel()
		}()
		if o := ask(transport, request(t, "GET", "").WithContext(ctx)); o.Err != "canceled" {
			t.Errorf("answered %+v", o)
		}
		<-gone
		if o := ask(transport, request(t, "GET", "")); o.Body != "fine" || s.connections.Load() != 2 {
			t.Errorf("the next is answered %+v, on connection %d", o, s.connections.Load())
		}
		if o := ask(transport, request(t, "GET", "").WithContext(ctx)); o.Err != "canceled" || s.requests.Load() != 2 {
			t.Errorf("a dead request is answered %+v", o)
		}
		if o := ask(transport, request(t, "GET", "")); o.Body != "fine" || s.connections.Load() != 2 {
			t.Errorf("and has cost the connection: %+v", o)
		}
	})
}

// The context's own reason is the error.
func TestCancellationHasACause(t *testing.T) {
	why := errors.New("the decision has changed")
	against(t, enough, func(s *server, _ net.Conn, in *bufio.Reader) {
		s.next(in)
		_, _ = in.ReadByte()
	}, func(t *testing.T, _ *server, transport standardClient) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { cancel(why) })
		answer, err := transport.RoundTrip(request(t, "GET", "").WithContext(ctx))
		if !errors.Is(err, why) {
			_ = answer.Body.Close()
			t.Errorf("failed with %v", err)
		}
	})
}

// A response must begin in time. HeaderTimeout does not bound its body.
func TestHeaderTimeout(t *testing.T) {
	const timeout = 100 * time.Millisecond
	for _, tt := range []struct {
		name  string
		serve func(conn net.Conn)
		want  string
	}{
		{"silence", func(net.Conn) {}, "timeout"},
		{"an endless header", func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for i := 0; i < 1000; i++ {
				if _, err := io.WriteString(conn, "X: y\r\n"); err != nil {
					return
				}
				time.Sleep(2 * time.Millisecond)
			}
		}, "timeout"},
		{"informational answers", func(conn net.Conn) {
			for i := 0; i < 1000; i++ {
				if _, err := io.WriteString(conn, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
					return
				}
				time.Sleep(2 * time.Millisecond)
			}
		}, "timeout"},
		{"a slow body", func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi")
			time.Sleep(2 * timeout)
			_, _ = io.WriteString(conn, "ne")
		}, ""},
		{"a slow body of chunks", func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n")
			time.Sleep(2 * timeout)
			_, _ = io.WriteString(conn, "0\r\n\r\n")
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			against(t, timeout, func(s *server, conn net.Conn, in *bufio.Reader) {
				for s.next(in) != nil {
					tt.serve(conn)
				}
			}, func(t *testing.T, s *server, transport standardClient) {
				for n := range int64(2) { // the second call uses the connection that the first has left
					o := ask(transport, request(t, "GET", ""))
					if o.Err != tt.want || tt.want == "" && o.Body != "fine" {
						t.Errorf("answered %+v", o)
					}
					if s.requests.Load() != n+1 {
						t.Errorf("%d requests reached the server", s.requests.Load())
					}
					time.Sleep(timeout)
				}
			})
		})
	}
}

// A request is not sent again because its response is late, even if it is idempotent.
func TestHeaderTimeoutLater(t *testing.T) {
	against(t, 100*time.Millisecond, func(s *server, conn net.Conn, in *bufio.Reader) {
		for s.next(in) != nil {
			if s.requests.Load() == 1 {
				_, _ = io.WriteString(conn, fine)
			}
		}
	}, func(t *testing.T, s *server, transport standardClient) {
		for _, want := range []string{"", "timeout"} {
			if o := ask(transport, request(t, "GET", "")); o.Err != want {
				t.Errorf("answered %+v, want %q", o, want)
			}
		}
		if s.requests.Load() != 2 || s.connections.Load() != 1 {
			t.Errorf("%d requests on %d connections", s.requests.Load(), s.connections.Load())
		}
	})
}

// The last request on a connection is the last.
func TestRequestThatCloses(t *testing.T) {
	against(t, enough, answering(fine, false), func(t *testing.T, s *server, transport standardClient) {
		for range 2 {
			r := request(t, "GET", "")
			r.Close = true
			if o := ask(transport, r); o.Body != "fine" {
				t.Errorf("answered %+v", o)
			}
		}
		if got := s.connections.Load(); got != 2 {
			t.Errorf("%d connections", got)
		}
	})
}

// A server cannot be reached, does no TLS handshake, or has an untrusted certificate: the error names the case, and the server
// gets no request.
func TestUnreachable(t *testing.T) {
	settings, trusting := secure()
	_, stranger := secure()
	const timeout = 100 * time.Millisecond
	closed := listen(t, nil, answering(fine, false))
	_ = closed.listener.Close()
	deaf := listen(t, nil, func(_ *server, _ net.Conn, in *bufio.Reader) { _, _ = io.Copy(io.Discard, in) })
	for _, tt := range []struct {
		name   string
		server *server
		client bool
		wrong  bool
		want   string
	}{
		{name: "closed", server: closed, want: "dial"},
		{name: "closed, TLS", server: closed, client: true, want: "dial"},
		{name: "no handshake", server: deaf, client: true, want: "timeout"},
		{name: "no TLS", server: listen(t, nil, answering("HTTP/1.1 400 Bad Request\r\n\r\n", true)), client: true, want: "broken"},
		{name: "HTTP at once", server: listen(t, nil, func(_ *server, conn net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(conn, fine) }), client: true, want: "tls"},
		{name: "a stranger", server: listen(t, settings, answering(fine, false)), client: true, wrong: true, want: "tls"},
	} {
		client := trusting
		switch {
		case !tt.client:
			client = nil
		case tt.wrong:
			client = stranger
		}
		direct := clientOf(t, tt.server, client, timeout)
		if o := ask(direct, request(t, "GET", "")); o.Err != tt.want {
			t.Errorf("%s: %+v", tt.name, o)
		}
		if tt.server.requests.Load() != 0 {
			t.Errorf("%s: a request got through", tt.name)
		}
		gatetest.Eventually(t, tt.name+": the connection stays open", func() bool { return tt.server.living() == 0 })
	}
}

// A request that is cancelled while its connection is made.
func TestCancelledHandshake(t *testing.T) {
	_, trusting := secure()
	accepted := make(chan struct{}, 2)
	s := listen(t, nil, func(_ *server, _ net.Conn, in *bufio.Reader) {
		accepted <- struct{}{}
		_, _ = io.Copy(io.Discard, in)
	})
	direct := clientOf(t, s, trusting, enough)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the decision has changed")
	go func() {
		<-accepted
		cancel(why)
	}()
	if _, err := direct.RoundTrip(request(t, "GET", "").WithContext(ctx)); !errors.Is(err, why) { //nolint:bodyclose // there is no body
		t.Errorf("failed with %v", err)
	}
	gatetest.Eventually(t, "the connection is closed", func() bool { return s.living() == 0 })
}

// The bytes of informational responses count towards the limit of the header. Without that, an
// upstream could send them at full speed until the timeout.
func TestEndlessInformation(t *testing.T) {
	s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
		s.next(in)
		for {
			if _, err := io.WriteString(conn, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100)); err != nil {
				return
			}
		}
	})
	direct := clientOf(t, s, nil, enough)
	o := ask(direct, request(t, "GET", ""))
	if n := len(o.Informed); o.Err != "broken" || n != maxInformational {
		t.Errorf("got %q after %d informational responses, want an error after %d", o.Err, n, maxInformational)
	}
}

// A body can be closed at any time and by any goroutine. A connection with unread bytes of the
// response is not used again.
func TestClose(t *testing.T) {
	for _, waiting := range []bool{false, true} {
		gone := make(chan struct{}, 1)
		against(t, enough, func(s *server, conn net.Conn, in *bufio.Reader) {
			for s.next(in) != nil {
				if s.connections.Load() > 1 {
					_, _ = io.WriteString(conn, fine)
					continue
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine")
				_, _ = in.ReadByte()
				gone <- struct{}{}
			}
		}, func(t *testing.T, s *server, transport standardClient) {
			answer, err := transport.RoundTrip(request(t, "GET", "")) //nolint:bodyclose // it is the matter
			if err != nil {
				t.Fatal(err)
			}
			read := make(chan error, 1)
			if waiting {
				go func() {
					_, err := io.Copy(io.Discard, answer.Body)
					read <- err
				}()
				time.Sleep(10 * time.Millisecond) // the client waits for bytes that do not arrive
			}
			if err := answer.Body.Close(); err != nil {
				t.Error(err)
			}
			if waiting {
				if err := <-read; err == nil {
					t.Error("half a body was taken for a whole one")
				}
			}
			<-gone
			if n, err := answer.Body.Read(make([]byte, 10)); n > 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("a closed body gives %d bytes and %v", n, err)
			}
			if err := answer.Body.Close(); err != nil {
				t.Error(err)
			}
			if o := ask(transport, request(t, "GET", "")); o.Body != "fine" || s.connections.Load() != 2 {
				t.Errorf("the next is answered %+v, on connection %d", o, s.connections.Load())
			}
		})
	}
}

// Closing a body at the moment of its end must not close the connection, which may serve the next request
// by then.
func TestCloseAtTheEnd(t *testing.T) {
	s := listen(t, nil, answering(fine, false))
	direct := clientOf(t, s, nil, enough)
	for range 300 {
		answer, err := direct.RoundTrip(request(t, "GET", "")) //nolint:bodyclose // it is the matter
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		go func() {
			_ = answer.Body.Close()
			close(closed)
		}()
		text, err := io.ReadAll(answer.Body)
		if err == nil && string(text) != "fine" {
			t.Fatalf("half an answer, %q, was taken for a whole one", text)
		}
		if o := ask(direct, request(t, "POST", "")); o.Err != "" {
			t.Fatal("another request's connection was closed")
		}
		<-closed
	}
}

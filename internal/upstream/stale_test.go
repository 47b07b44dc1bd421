package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hangingUp answers the first request on its first connection. To the second request it sends only
// last. On other connections it answers all requests.
func hangingUp(last string) connHandler {
	return func(s *server, conn net.Conn, in *bufio.Reader) {
		first := s.connections.Load() == 1
		for {
			r := s.next(in)
			switch {
			case r == nil:
				return
			case first && s.requests.Load() == 2:
				_, _ = io.WriteString(conn, last)
				return
			case r.Method == http.MethodHead:
				_, _ = io.WriteString(conn, strings.TrimSuffix(fine, "fine"))
			default:
				_, _ = io.WriteString(conn, fine)
			}
		}
	}
}

// If the server closes a connection while a request is sent, the client sends the request again
// only if this is safe and no byte of a response has arrived.
func TestStaleConnection(t *testing.T) {
	settings, trusting := secure()
	for _, tt := range []struct {
		name, method, key, body, last string
		repeated                      bool
	}{
		{name: "GET", method: "GET", repeated: true},
		{name: "HEAD", method: "HEAD", repeated: true},
		{name: "OPTIONS with a body", method: "OPTIONS", body: "hello", repeated: true},
		{name: "POST", method: "POST", body: "hello"},
		{name: "POST without a body", method: "POST"},
		{name: "PUT", method: "PUT", body: "hello"},
		{name: "DELETE", method: "DELETE"},
		{name: "a key", method: "POST", key: "1", body: "hello"},
		{name: "a key, no body", method: "POST", key: "1"},
		{name: "half a status line", method: "GET", last: "HTTP/1.1 2"},
		{name: "half a header", method: "GET", last: "HTTP/1.1 200 OK\r\nX-"},
		{name: "an informational answer", method: "GET", last: "HTTP/1.1 103 Early Hints\r\n\r\n"},
		{name: "half a body", method: "GET", last: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi"},
	} {
		for _, encrypted := range []bool{false, true} {
			offered, client := settings, trusting
			if !encrypted {
				offered, client = nil, nil
			}
			s := listen(t, offered, hangingUp(tt.last))
			direct := clientOf(t, s, client, enough)
			t.Run(fmt.Sprintf("%s, TLS %v", tt.name, encrypted), func(t *testing.T) {
				make := func() *http.Request {
					r := request(t, tt.method, tt.body)
					if tt.key != "" {
						r.Header.Set("Idempotency-Key", tt.key)
					}
					return r
				}
				if o := ask(direct, make()); o.Err != "" {
					t.Fatal(o.Err)
				}
				if o := ask(direct, make()); (o.Err == "") != tt.repeated {
					t.Errorf("answered %+v", o)
				}
				want := int64(2)
				if tt.repeated {
					want = 3
				}
				if got := s.requests.Load(); got != want {
					t.Errorf("%d requests reached the server, want %d", got, want)
				}
			})
		}
	}
}

// Before the client uses an idle connection, it detects that the connection has ended or that the
// server has sent bytes without a request. This matters most for requests that may not be repeated.
func TestIdleConnection(t *testing.T) {
	settings, trusting := secure()
	for _, tt := range []struct {
		name, said string
		beneath    string // bytes sent below TLS
		closed     bool
		kept       bool
	}{
		{name: "nothing", kept: true},
		{name: "closed", closed: true},
		{name: "an answer", said: fine},
		{name: "an answer, closed", said: fine, closed: true},
		{name: "a timeout", said: "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", closed: true},
		{name: "one byte", said: "\n"},
		{name: "a piece of a record", beneath: "\x17\x03"},
	} {
		for _, encrypted := range []bool{false, true} {
			offered, client := settings, trusting
			if !encrypted {
				offered, client = nil, nil
			}
			said := make(chan struct{}, 2)
			s := listen(t, offered, func(s *server, conn net.Conn, in *bufio.Reader) {
				first := s.connections.Load() == 1
				for s.next(in) != nil {
					_, _ = io.WriteString(conn, fine)
					if first {
						time.Sleep(10 * time.Millisecond) // sends the next bytes in a TCP segment of their own
						_, _ = io.WriteString(conn, tt.said)
						under := conn
						if secure, ok := conn.(*tls.Conn); ok {
							under = secure.NetConn()
						}
						_, _ = io.WriteString(under, tt.beneath)
						if tt.closed {
							_ = conn.Close()
						}
						said <- struct{}{}
					}
				}
			})
			direct := clientOf(t, s, client, enough)
			t.Run(fmt.Sprintf("%s, TLS %v", tt.name, encrypted), func(t *testing.T) {
				for n := range int64(2) {
					r := request(t, "POST", "hello")
					if o := ask(direct, r); o.Err != "" || o.Body != "fine" {
						t.Fatalf("request %d: %+v", n, o)
					}
					if n == 0 {
						<-said
						time.Sleep(10 * time.Millisecond) // on loopback it has arrived
					}
				}
				if got := s.connections.Load() == 1; got != tt.kept || s.requests.Load() != 2 {
					t.Errorf("the connection is kept: %v; %d requests", got, s.requests.Load())
				}
			})
		}
	}
}

// Without a way to ask, a connection is used once.
func TestConnectionThatCannotBeAsked(t *testing.T) {
	s := listen(t, nil, answering(fine, false))
	direct := clientOf(t, s, nil, enough)
	dial := direct.Dial
	direct.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		return struct{ net.Conn }{conn}, err
	}
	for range 2 {
		if o := ask(direct, request(t, "GET", "")); o.Body != "fine" {
			t.Fatalf("RoundTrip got %+v, want the body \"fine\"", o)
		}
	}
	if got := s.connections.Load(); got != 2 {
		t.Errorf("%d connections", got)
	}
}

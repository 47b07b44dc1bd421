package upstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// poison is a response without a request.
const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

// A response is the same in pieces as in one piece.
func TestTornHeader(t *testing.T) {
	const (
		good = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 4\r\n\r\nfine"
		bad  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n4\r\nfine\r\n0\r\n\r\n"
	)
	for _, tt := range []struct {
		answer string
		want   outcome
	}{{good, ok4.with("X", "y")}, {bad, broken}} {
		for at := 1; at < strings.Index(tt.answer, "\r\n\r\n")+4; at += 3 {
			s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
				for s.next(in) != nil {
					_, _ = io.WriteString(conn, tt.answer[:at])
					time.Sleep(5 * time.Millisecond)
					_, _ = io.WriteString(conn, tt.answer[at:])
				}
			})
			if diff := cmp.Diff(tt.want, ask(clientOf(t, s, nil, enough), request(t, "GET", "")), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("torn after %q (-want +got):\n%s", tt.answer[:at], diff)
			}
		}
	}
}

// A response that must have no body but announces a body may be followed by the body at any time,
// so the client sends no other request on its connection.
func TestAnnouncedBody(t *testing.T) {
	for _, head := range []string{
		"HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	} {
		s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
			for s.next(in) != nil {
				if s.requests.Load() > 1 {
					_, _ = io.WriteString(conn, map[bool]string{true: poison, false: fine}[s.connections.Load() == 1])
					continue
				}
				_, _ = io.WriteString(conn, head)
			}
		})
		direct := clientOf(t, s, nil, enough)
		for _, want := range []string{"", "fine"} {
			if o := ask(direct, request(t, "GET", "")); o.Err != "" || o.Body != want {
				t.Errorf("%q: %+v", head, o)
			}
		}
	}
}

// tearing holds written bytes back while hold is set.
type tearing struct {
	net.Conn
	hold bool
	held bytes.Buffer
}

func (c *tearing) Write(p []byte) (int, error) {
	if c.hold {
		return c.held.Write(p)
	}
	return c.Conn.Write(p)
}

// The beginning of a TLS record that arrived with a response counts as bytes without a request.
func TestTornRecord(t *testing.T) {
	settings, trusting := secure()
	s := listen(t, nil, func(s *server, conn net.Conn, _ *bufio.Reader) {
		first := s.connections.Load() == 1
		under := &tearing{Conn: conn}
		secure := tls.Server(under, settings)
		in := bufio.NewReader(secure)
		for s.next(in) != nil {
			if !first {
				_, _ = io.WriteString(secure, fine)
				continue
			}
			if s.requests.Load() == 1 {
				under.hold = true
				_, _ = io.WriteString(secure, fine)
				_, _ = io.WriteString(secure, poison)
				under.hold = false
				all := under.held.Bytes()
				_, _ = conn.Write(all[:len(all)-5])
				continue
			}
			_, _ = conn.Write(under.held.Bytes()[under.held.Len()-5:])
		}
	})
	direct := clientOf(t, s, trusting, enough)
	for n := range 2 {
		r := request(t, "GET", "")
		if o := ask(direct, r); o.Body != "fine" {
			t.Errorf("request %d: %+v", n, o)
		}
	}
}

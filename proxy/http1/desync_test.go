package http1

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Chunks beside a length are noticed wherever the header was torn on its way.
func TestTornHeader(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n4\r\nfine\r\n0\r\n\r\n"
	for at := 1; at < strings.Index(answer, "\r\n\r\n")+4; at += 3 {
		s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
			for s.next(in) != nil {
				_, _ = io.WriteString(conn, answer[:at])
				time.Sleep(10 * time.Millisecond)
				_, _ = io.WriteString(conn, answer[at:])
			}
		})
		direct, _ := transports(t, s, nil, header)
		for range 2 {
			if o := ask(direct, request(t, "GET", "")); o.Body != "fine" {
				t.Fatalf("torn at %d: %+v", at, o)
			}
		}
		if s.connections.Load() != 2 {
			t.Errorf("torn at %d, behind %q, the connection is kept", at, answer[:at])
		}
	}
}

package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// A connection is used again after a request with a body only if the status of the response shows
// that the server has read the body; after a request without a body, it is used again for any
// status.
func TestStatusOfAnUnreadBody(t *testing.T) {
	for status, kept := range map[int]bool{
		200: true, 201: true, 204: true, 303: true,
		301: false, 307: false, 400: false, 401: false, 404: false, 413: false, 500: false, 501: false,
	} {
		for _, body := range []string{"", "hello"} {
			s := listen(t, nil, answering(fmt.Sprintf("HTTP/1.1 %d Status\r\nContent-Length: 0\r\n\r\n", status), false))
			if status == http.StatusNoContent {
				s = listen(t, nil, answering("HTTP/1.1 204 No Content\r\n\r\n", false))
			}
			direct := clientOf(t, s, nil, enough)
			for range 2 {
				if o := ask(direct, request(t, "POST", body)); o.Err != "" || o.Status != status {
					t.Fatalf("POST %q: %+v, want status %d", body, o, status)
				}
			}
			if got := s.connections.Load() == 1; got != (kept || body == "") {
				t.Errorf("POST %q answered %d: the connection was used again: %v", body, status, got)
			}
		}
	}
}

// T-ADD-09: a server that refuses a POST and does not read its body takes the body for the next
// request. No request of ours follows on that connection, nor gets the answer to the body.
func TestRefusalOfAnUnreadBody(t *testing.T) {
	s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in) // the server has read the head and not the body
			if err != nil {
				return
			}
			s.requests.Add(1)
			if r.Method == http.MethodPost {
				_, err = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			} else {
				_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
			}
			if err != nil {
				return
			}
		}
	})
	direct := clientOf(t, s, nil, enough)
	for n := range 100 {
		if o := ask(direct, request(t, "POST", "GET /smuggled HTTP/1.1\r\nHost: api.example.test\r\n\r\n")); o.Status != http.StatusNotFound {
			t.Fatalf("POST %d: %+v", n, o)
		}
		if o := ask(direct, request(t, "GET", "")); o.Body != "/accounts/7" {
			t.Fatalf("GET %d: %+v, want its own answer", n, o)
		}
	}
}

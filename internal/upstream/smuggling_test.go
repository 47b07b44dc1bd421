package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// T-SMG-11: each response of the catalogues is read as the table says, in one piece, byte by byte, and
// on a connection that has served a request. After a fault, and after what may be followed by anything, no
// request is sent on the connection.
func TestSmuggledResponses(t *testing.T) {
	for _, tt := range smuggling.Responses() {
		for _, way := range []string{"at once", "kept", "bytewise"} {
			if way == "bytewise" && len(tt.Bytes) > 1000 {
				continue
			}
			t.Run(fmt.Sprintf("%s, %s", tt.Name, way), func(t *testing.T) {
				t.Parallel()
				testSmuggledResponse(t, &tt, way)
			})
		}
	}
}

func testSmuggledResponse(t *testing.T, tt *smuggling.Response, way string) {
	written := make(chan struct{}, 2)
	s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
		for r := s.next(in); r != nil; r = s.next(in) {
			if r.URL.Path != "/" {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
				continue
			}
			if way != "bytewise" {
				_, _ = io.WriteString(conn, tt.Bytes)
			}
			for i := 0; way == "bytewise" && i < len(tt.Bytes); i++ {
				_, _ = io.WriteString(conn, tt.Bytes[i:i+1])
				time.Sleep(20 * time.Microsecond)
			}
			written <- struct{}{}
			if tt.HangUp {
				return
			}
		}
	})
	c := clientOf(t, s, nil, enough).Client
	ask := func(method, target string) (*Response, string, error) {
		response, err := c.RoundTrip(t.Context(), &Request{Method: method, Target: target, Host: "api.example.test"})
		if err != nil {
			return nil, "", err
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		return response, string(body), err
	}
	other := func(when string) {
		t.Helper()
		if _, body, err := ask("GET", "/other"); body != "other" || err != nil {
			t.Fatalf("%s got %q, %v, want the response to this request", when, body, err)
		}
	}
	if way == "kept" {
		other("before the response")
	}
	response, body, err := ask(tt.Method, "/")
	switch {
	case strings.Contains(body, smuggling.Poison):
		t.Errorf("got the body %q", body)
	case tt.Fault == smuggling.InHead && response != nil, tt.Fault == smuggling.InBody && err == nil:
		t.Errorf("got %+v, %q, %v, want an error", response, body, err)
	case tt.Fault == smuggling.Valid && (err != nil || response.Status != tt.Status || body != tt.Body):
		t.Errorf("got %+v, %q, %v, want %d and %q", response, body, err, tt.Status, tt.Body)
	}
	<-written
	time.Sleep(time.Millisecond) // what follows the response has arrived
	other("after the response")
	want := int64(2)
	switch {
	case tt.Fault == smuggling.Valid && !tt.Spent:
		want = 1
	case tt.Bytes == "" && way == "kept": // the request is sent again on a new connection
		want = 3
	}
	if got := s.connections.Load(); got != want {
		t.Errorf("got %d connections, want %d", got, want)
	}
}

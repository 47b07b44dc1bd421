package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/upstream"
)

// readsNoBody is an upstream with Python's http.server whose handler, like many, does not read bodies.
// It writes each request to standard output, one a line.
const readsNoBody = `
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        print(self.command, self.path, self.headers.get("Tallygate-Partner"), flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_GET = do_HEAD = do_PURGE = do_DELETE = do_OPTIONS = do_POST = do_PUT = do_PATCH = answer
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
`

// python starts readsNoBody and returns its URL and the requests that it reads.
func python(t *testing.T) (url string, requests chan string) {
	t.Helper()
	gatetest.NeedPrograms(t, "python3")
	command := exec.Command("python3", "-c", readsNoBody)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the upstream did not start within the timeout")
	}
	url, requests = "http://127.0.0.1:"+lines.Text(), make(chan string, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			requests <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		_ = command.Wait()
	})
	return url, requests
}

// smuggled is a request inside a body, with an identity header.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: api.example.test\r\nTallygate-Partner: admin\r\n\r\n"

// everyMethod allows every method on the route, with the given policy for bodies.
func everyMethod(body config.RouteBody) func(*config.Config) {
	return func(cfg *config.Config) {
		route := &cfg.APIs[0].Routes[0]
		route.Methods, route.Body = []config.Method{"GET", "HEAD", "DELETE", "OPTIONS", "PURGE", "POST", "PUT", "PATCH"}, body
	}
}

// framings are the fields that announce a body.
var framings = map[string]struct {
	protocol string
	length   int64
}{
	"HTTP/1.1, a length": {"http/1.1", int64(len(smuggled))},
	"HTTP/1.1, chunks":   {"http/1.1", -1},
	"HTTP/2, a length":   {"h2", int64(len(smuggled))},
	"HTTP/2, no length":  {"h2", -1},
}

// arrivals returns the requests of an upstream once no more arrive.
func arrivals(requests chan string) (all []string) {
	for {
		select {
		case r := <-requests:
			all = append(all, r)
		case <-time.After(300 * time.Millisecond):
			return all
		}
	}
}

// T-ADD-08: a body with a method that does not define one is refused. If the route allows the body, an
// upstream that does not read it never takes it for a request.
func TestBodyIsNoSecondRequest(t *testing.T) {
	url, requests := python(t)
	for _, body := range []config.RouteBody{"", config.BodyAllowed} {
		s := newHarness(t, url, io.Discard, everyMethod(body))
		address := s.listen(t)
		for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "PURGE"} {
			for framing, f := range framings {
				{
					answer, err := do(t, s, address, s.token, f.protocol, method, strings.NewReader(smuggled), func(r *http.Request) { r.ContentLength = f.length })
					if err != nil {
						t.Fatal(err)
					}
					text, _ := io.ReadAll(answer.Body)
					_ = answer.Body.Close()
					refused := answer.StatusCode == http.StatusBadRequest && (method == "HEAD" || strings.Contains(string(text), `"reason":"body_not_allowed"`))
					// An upstream that closes with bytes unread resets the connection: 502.
					passed := answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusBadGateway
					if body == "" && !refused || body != "" && !passed {
						t.Errorf("body %q, %s, %s: got %d %s", body, method, framing, answer.StatusCode, text)
					}
				}
			}
		}
		want := 0
		if body == config.BodyAllowed {
			want = 5 * len(framings)
		}
		if all := arrivals(requests); len(all) != want || strings.Contains(strings.Join(all, "\n"), "smuggled") {
			t.Errorf("body %q: the upstream got %d requests, want %d: %q", body, len(all), want, all)
		}
	}
}

// The gate does not take the body of a refused request for the next request.
func TestRefusedBodyIsNoSecondRequest(t *testing.T) {
	url, requests := python(t)
	s := newHarness(t, url, io.Discard)
	authorized := strings.Replace(smuggled, "/smuggled", "/accounts/8", 1)
	authorized = strings.Replace(authorized, "\r\n\r\n", "\r\nAuthorization: Bearer "+s.token+"\r\n\r\n", 1)
	address := s.listen(t)
	for _, framing := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(authorized), authorized),
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(authorized)+10, authorized), // more is to come
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(authorized), authorized),
	} {
		{
			settings := s.clientConfig("http/1.1")
			conn, err := tls.Dial("tcp", address, settings)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.WriteString(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+s.token+"\r\n"+framing)
			received, _ := io.ReadAll(conn)
			_ = conn.Close()
			if n := strings.Count(string(received), "HTTP/1.1 "); n > 1 || n == 1 && !strings.HasPrefix(string(received), "HTTP/1.1 400 ") {
				t.Errorf("framing %q: got %q", framing, received)
			}
		}
	}
	if got := arrivals(requests); len(got) > 0 {
		t.Errorf("the upstream got %q, want no request", got)
	}
}

// A request with a long or slow body, or a body of unknown length, has its own connection to an HTTP/1.1
// upstream. A request with a small body reuses one.
func TestConnectionsForLongBodies(t *testing.T) {
	var opened atomic.Int64
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	api.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	api.Start()
	defer api.Close()
	s := newHarness(t, api.URL, io.Discard)
	s.proxy.upstreams["accounts"].RoundTripper.(*upstream.Client).Settle = 0 // a connection is used again at once
	address := s.listen(t)
	for _, tt := range []struct {
		name   string
		size   int
		length int64
		want   int64
	}{
		{"small", 5, 5, 1},
		{"long", 20_000, 20_000, 3},
		{"of unknown length", 5, -1, 3},
	} {
		opened.Store(0)
		for range 3 {
			answer, err := do(t, s, address, s.token, "http/1.1", http.MethodPost, strings.NewReader(strings.Repeat("x", tt.size)), func(r *http.Request) { r.ContentLength = tt.length })
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Fatalf("%s: got %s", tt.name, answer.Status)
			}
		}
		if got := opened.Load(); got != tt.want {
			t.Errorf("%s: 3 requests took %d connections, want %d", tt.name, got, tt.want)
		}
	}
}

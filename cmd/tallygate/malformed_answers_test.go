package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// A scriptedUpstream is an upstream with a table of responses. The target of a request names a response of the
// table. For any other target, the response is a plain 200.
type scriptedUpstream struct {
	listener net.Listener
	answers  map[string]smuggling.Response // by target
	wait     sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	reused []string // the responses after which the gate has sent another request on the same connection, which it must not do
}

func newScriptedUpstream(t *testing.T, answers map[string]smuggling.Response) *scriptedUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &scriptedUpstream{listener: l, answers: answers, open: map[net.Conn]bool{}}
	u.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			u.mu.Lock()
			u.open[conn] = true
			u.mu.Unlock()
			u.wait.Go(func() {
				u.serve(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		u.mu.Lock()
		for conn := range u.open {
			_ = conn.Close()
		}
		u.mu.Unlock()
		u.wait.Wait()
	})
	return u
}

func (u *scriptedUpstream) serve(conn net.Conn) {
	in, spent := bufio.NewReader(conn), ""
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if spent != "" {
			u.mu.Lock()
			u.reused = append(u.reused, spent)
			u.mu.Unlock()
		}
		if request.RequestURI == endlessTarget {
			for err == nil {
				_, err = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
			}
			return
		}
		answer, scripted := u.answers[request.RequestURI]
		if !scripted {
			answer = smuggling.Response{Bytes: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain"}
		}
		if answer.Spent || answer.Fault != smuggling.Valid {
			spent = answer.Name
			_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond)) // time for a gate that waits for more bytes
		}
		if _, err := io.WriteString(conn, answer.Bytes); err != nil || answer.HangUp {
			return
		}
	}
}

// endlessTarget is answered with informational responses without end.
const endlessTarget = "/accounts/endless"

// A received response is a status and a body, and whether both are whole.
type received struct {
	status int
	body   string
	whole  bool
}

// oldClient returns a function that sends requests of HTTP/1.0, each over a connection of its own. The
// end of a body without a length is the end of the connection, which TLS tells from a broken one.
func (r *reloading) oldClient() func(method, target string) (received, error) {
	return func(method, target string) (received, error) {
		conn, err := r.dialFrom("127.0.0.1", "northwind", "http/1.1")
		if err != nil {
			return received{}, err
		}
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: api.example.test\r\nAuthorization: Bearer %s\r\n\r\n", method, target, r.tokens["good"])
		if err != nil {
			return received{}, err
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
		if err != nil {
			return received{}, err
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		return received{answer.StatusCode, string(body), err == nil}, nil
	}
}

// newClient returns a function that sends requests over HTTP/1.1 or HTTP/2.
func (r *reloading) newClient(h2 bool) func(method, target string) (received, error) {
	transport := &http.Transport{TLSClientConfig: r.client("northwind"), ForceAttemptHTTP2: h2, DisableCompression: true}
	r.t.Cleanup(transport.CloseIdleConnections)
	return func(method, target string) (received, error) {
		ctx, cancel := context.WithTimeout(r.t.Context(), patience)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, method, "https://"+r.addresses["partners"]+target, nil)
		if err != nil {
			return received{}, err
		}
		request.Host = "api.example.test"
		request.Header.Set("Authorization", "Bearer "+r.tokens["good"])
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return received{}, err
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		return received{answer.StatusCode, string(body), err == nil}, nil
	}
}

// wrong returns the fault in the answer that a client received for a response of the table, or "".
func wrong(answer smuggling.Response, got received, err error) string {
	body := answer.Body
	if answer.Method == http.MethodHead {
		body = ""
	}
	refused := err == nil && got.status == http.StatusBadGateway && strings.Contains(got.body, `"reason":"upstream_`)
	switch {
	case strings.Contains(got.body, smuggling.Poison):
		return "the bytes of another response"
	case answer.Fault == smuggling.InHead && !refused:
		return "want 502"
	case answer.Fault == smuggling.InBody && !refused && err == nil && got.whole:
		return "want 502, or a response that breaks off"
	case answer.Status == http.StatusNotModified: // a client may expect a body of this length
		if err != nil || got.status != answer.Status || got.body != "" {
			return "want 304"
		}
	case answer.Fault == smuggling.Valid && (err != nil || got != received{answer.Status, body, true}):
		return fmt.Sprintf("want %d %q", answer.Status, body)
	}
	return ""
}

// T-SMG-11, 16, T-ADD-15: an answer of an upstream that is malformed or ambiguous becomes 502, a
// truncated answer never looks whole to the client, and the connection carries no other request.
func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	answers := map[string]smuggling.Response{}
	for n, answer := range smuggling.Responses() {
		answers[fmt.Sprintf("/accounts/a%d", n)] = answer
	}
	u := newScriptedUpstream(t, answers)
	r.configure(r.upstream.url(), "http://"+u.listener.Addr().String(), "[GET, POST], path: \"/accounts/{id}\"", "[GET, HEAD], path: \"/accounts/{id}\"")
	r.serve()
	var asking sync.WaitGroup
	for name, ask := range map[string]func(method, target string) (received, error){
		"HTTP/1.1": r.newClient(false), "HTTP/2": r.newClient(true), "HTTP/1.0": r.oldClient(),
	} {
		targets := make(chan string)
		asking.Go(func() {
			for target := range answers {
				targets <- target
			}
			close(targets)
		})
		for range 4 {
			asking.Go(func() {
				for target := range targets {
					answer := answers[target]
					got, err := ask(answer.Method, target)
					if fault := wrong(answer, got, err); fault != "" {
						t.Errorf("%s, over %s: got %d %.300q, whole %t, %v; %s", answer.Name, name, got.status, got.body, got.whole, err, fault)
					}
					if got, err := ask(http.MethodGet, "/accounts/plain"); err != nil || got != (received{200, "plain", true}) {
						t.Errorf("behind %s, over %s: got %v, %v, want a plain response", answer.Name, name, got, err)
					}
				}
			})
		}
	}
	asking.Wait()
	for _, name := range u.reused {
		t.Errorf("%s: the connection is used again", name)
	}
	r.check(r.stop())
}

// An upstream that sends informational responses without end occupies a request no longer than a silent
// upstream.
func TestEndlessInformation(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	u := newScriptedUpstream(t, nil)
	r.configure(r.upstream.url(), "http://"+u.listener.Addr().String(), "timeout: 30s}", "timeout: 1s}")
	r.serve()
	for name, ask := range map[string]func(method, target string) (received, error){"HTTP/1.0": r.oldClient(), "HTTP/2": r.newClient(true)} {
		if got, err := ask(http.MethodGet, endlessTarget); err != nil || got.status != http.StatusBadGateway && got.status != http.StatusGatewayTimeout {
			t.Errorf("%s: got %v, %v, want 502 or 504", name, got, err)
		}
	}
	r.check(r.stop())
}

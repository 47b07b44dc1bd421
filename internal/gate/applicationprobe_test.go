package gate

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// TestApplicationProbes: the admin listener passes the status of the application's response on, and
// nothing else in either direction.
func TestApplicationProbes(t *testing.T) {
	var received []*http.Request
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		received = append(received, r)
		w.Header().Set("Set-Cookie", "session=secret")
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/sick":
			http.Error(w, "the database is down", http.StatusInternalServerError)
		default:
			_, _ = w.Write([]byte("internal words"))
		}
	}))
	t.Cleanup(application.Close)
	address := strings.TrimPrefix(application.URL, "http://")
	closed := closedPort(t)
	g := unopenedGate(t)
	var probes []ApplicationProbe
	for _, text := range []string{
		"api/startup=tcp://" + address, "api/liveness=http://" + address + "/alive?full=1", "api/readiness=http://" + address + "/sick",
		"moved/liveness=http://" + address + "/moved", "gone/startup=tcp://" + closed, "gone/liveness=http://" + closed + "/alive",
	} {
		p, err := ParseApplicationProbe(text)
		if err != nil {
			t.Fatalf("ParseApplicationProbe(%q) = %v", text, err)
		}
		probes = append(probes, p)
	}
	g.ForwardProbes(probes)
	for _, c := range []struct {
		method, path string
		status       int
		body, target string // target of the request at the application; "": no request
	}{
		{"GET", "/application/api/startup", 200, "", ""},
		{"GET", "/application/api/liveness?evil=1", 200, "", "/alive?full=1"},
		{"GET", "/application/api/readiness", 500, "", "/sick"},
		{"GET", "/application/moved/liveness", 302, "", "/moved"},
		{"GET", "/application/gone/startup", 503, "the application does not answer\n", ""},
		{"GET", "/application/gone/liveness", 503, "the application does not answer\n", ""},
		{"GET", "/application/moved/readiness", 404, "404 page not found\n", ""},
		{"GET", "/application/api/liveness/more", 404, "404 page not found\n", ""},
		{"POST", "/application/api/liveness", 405, "Method Not Allowed\n", ""},
	} {
		received = nil
		r := httptest.NewRequest(c.method, "http://127.0.0.1:9090"+c.path, strings.NewReader("body"))
		r.Header.Set("Authorization", "Bearer caller")
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		w := httptest.NewRecorder()
		g.adminHandler().ServeHTTP(w, r)
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Set-Cookie")+w.Header().Get("Location") != "" {
			t.Errorf("%s %s: got %d %q %v, want %d %q and no header of the application", c.method, c.path, w.Code, w.Body, w.Header(), c.status, c.body)
		}
		if c.target == "" {
			if len(received) != 0 {
				t.Errorf("%s %s: got %d requests at the application, want none", c.method, c.path, len(received))
			}
			continue
		}
		if len(received) != 1 || received[0].Method != "GET" || received[0].RequestURI != c.target || len(received[0].Header) != 2 || received[0].UserAgent() != "tallygate-probe" || received[0].Header.Get("Connection") != "close" {
			t.Errorf("%s %s: got %+v at the application, want one GET %s without the caller's header", c.method, c.path, received, c.target)
		}
	}
}

// TestApplicationProbeEndsWithTheCaller: a probe of an application that hangs ends when the kubelet cancels its
// request.
func TestApplicationProbeEndsWithTheCaller(t *testing.T) {
	accepted := make(chan struct{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		close(accepted)
		<-t.Context().Done()
		_ = conn.Close()
	}()
	g := unopenedGate(t)
	p, err := ParseApplicationProbe("api/liveness=http://" + listener.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	g.ForwardProbes([]ApplicationProbe{p})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-accepted
		cancel()
	}()
	w := httptest.NewRecorder()
	g.adminHandler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:9090/application/api/liveness", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got status %d, want 503", w.Code)
	}
}

// TestApplicationProbesShareACall: the requests for one probe open one connection to the application at a time.
// A request that ends takes nothing from the others, and the last request ends the call.
func TestApplicationProbesShareACall(t *testing.T) {
	application, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan net.Conn, 64)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := application.Accept()
			if err != nil {
				return
			}
			calls <- conn
		}
	})
	t.Cleanup(func() { _ = application.Close(); accepting.Wait() })
	g := unopenedGate(t)
	p, err := ParseApplicationProbe("api/liveness=http://" + application.Addr().String() + "/alive")
	if err != nil {
		t.Fatal(err)
	}
	g.ForwardProbes([]ApplicationProbe{p})
	admin := httptest.NewServer(g.adminHandler())
	t.Cleanup(admin.Close)
	caller := g.applicationProbes["api/liveness"]
	waiting := func() int {
		caller.mu.Lock()
		defer caller.mu.Unlock()
		if caller.running == nil {
			return 0
		}
		return caller.running.waiting
	}
	results := make(chan string, 64)
	ask := func(ctx context.Context) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, admin.URL+"/application/api/liveness", nil)
		if err != nil {
			t.Error(err)
		}
		response, err := admin.Client().Do(r)
		if err != nil {
			results <- "canceled"
			return
		}
		_ = response.Body.Close()
		results <- response.Status
	}
	wantResults := func(n int, want string) {
		t.Helper()
		for range n {
			if got := <-results; got != want {
				t.Errorf("a request got %s, want %s", got, want)
			}
		}
	}

	canceled, cancel := context.WithCancel(t.Context())
	go ask(canceled) // begins the call that the others share
	first := <-calls
	for range 20 {
		go ask(t.Context())
	}
	gatetest.EventuallyEqual(t, "requests that wait", 21, waiting)
	cancel()
	wantResults(1, "canceled")
	gatetest.EventuallyEqual(t, "requests that wait", 20, waiting)
	if _, err := io.WriteString(first, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wantResults(20, "204 No Content")
	_ = first.Close()
	if n := len(calls); n != 0 {
		t.Errorf("21 requests made %d calls, want 1", n+1)
	}

	canceled, cancel = context.WithCancel(t.Context())
	go ask(canceled)
	hanging := <-calls
	cancel()
	wantResults(1, "canceled")
	_ = hanging.SetReadDeadline(time.Now().Add(applicationTimeout / 2))
	if _, err := io.Copy(io.Discard, hanging); err != nil { // ends when the gate closes the connection
		t.Error(err)
	}
	_ = hanging.Close()
	go ask(t.Context())
	second := <-calls
	if _, err := io.WriteString(second, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wantResults(1, "503 Service Unavailable")
	_ = second.Close()
}

// TestParseApplicationProbe: a probe leads to loopback only.
func TestParseApplicationProbe(t *testing.T) {
	for _, text := range []string{
		"", "api/liveness", "api/liveness=", "liveness=http://127.0.0.1:80/", "api/preStop=http://127.0.0.1:80/", "../liveness=http://127.0.0.1:80/",
		"api/liveness=http://192.0.2.1:80/", "api/liveness=http://localhost:80/", "api/liveness=http://127.0.0.1/", "api/liveness=http://127.0.0.1:0/",
		"api/liveness=http://0.0.0.0:80/", "api/liveness=https://127.0.0.1:80/", "api/liveness=file:///etc/passwd", "api/liveness=http://a@127.0.0.1:80/",
		"api/liveness=http://127.0.0.1:80/#x", "api/liveness=tcp://127.0.0.1:80/x", "api/liveness=http://[::1%lo]:80/", "api/liveness=http://169.254.169.254:80/",
		"api/liveness=http://[::ffff:192.0.2.1]:80/",
	} {
		if p, err := ParseApplicationProbe(text); err == nil {
			t.Errorf("ParseApplicationProbe(%q) = %v, want an error", text, p)
		}
	}
	for _, text := range []string{"api/liveness=http://127.0.0.1:80", "a-1/startup=tcp://[::1]:8080", "a/readiness=http://127.1.2.3:1/x?y=z"} {
		if _, err := ParseApplicationProbe(text); err != nil {
			t.Errorf("ParseApplicationProbe(%q) = %v, want a probe", text, err)
		}
	}
}

// closedPort returns an address on which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

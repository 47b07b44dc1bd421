package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// A drillAPI is an upstream like many old servers: it reads the body of POST requests only, and
// takes the body of any other request for the next request on the connection. For /files/hints it
// sends three 103 responses of twelve fields first. It handles 200 requests at once, including POST
// requests whose body does not arrive.
type drillAPI struct {
	listener net.Listener
	workers  chan struct{}
	smuggled atomic.Int64
	example  atomic.Value // an example of a smuggled request, a string
}

// canary is in the path of a request that must reach no upstream.
const canary = "smuggled"

func newDrillAPI(t *testing.T) *drillAPI {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &drillAPI{listener: l, workers: make(chan struct{}, 200)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go a.serve(conn)
		}
	}()
	return a
}

func (a *drillAPI) url() string { return "http://" + a.listener.Addr().String() }

func (a *drillAPI) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		a.workers <- struct{}{}
		err = a.handle(request, out)
		<-a.workers
		if err != nil {
			return
		}
	}
}

func (a *drillAPI) handle(request *http.Request, out *bufio.Writer) error {
	if strings.Contains(request.RequestURI, canary) {
		a.smuggled.Add(1)
		a.example.Store(fmt.Sprintf("%s %s %v", request.Method, request.RequestURI, request.Header))
	}
	if request.Method == http.MethodPost {
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return err
		}
	}
	if request.URL.Path == "/files/hints" {
		for range 3 {
			_, _ = out.WriteString("HTTP/1.1 103 Early Hints\r\n")
			for i := range 12 {
				_, _ = fmt.Fprintf(out, "X-Hint-%d: %s\r\n", i, strings.Repeat("h", 40))
			}
			_, _ = out.WriteString("\r\n")
			_ = out.Flush()
		}
	}
	body := "fine\n"
	if request.Method == http.MethodHead {
		body = ""
	}
	_, _ = fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nX-Answer: %s\r\n\r\n%s", strings.Repeat("a", 60), body)
	return out.Flush()
}

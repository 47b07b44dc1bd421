package httpserver

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// A seen request has the fields of a request that a handler reads.
type seen struct {
	Method, Target, Proto, Path, RawPath, Query, Fragment, Host, Body string
	Length                                                            int64
	Close                                                             bool
	Header                                                            http.Header
	Encoding                                                          []string
	Err                                                               bool
}

func see(r *http.Request) seen {
	body, err := io.ReadAll(r.Body)
	return seen{
		Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Path: r.URL.Path, RawPath: r.URL.RawPath, Query: r.URL.RawQuery, Fragment: r.URL.Fragment, Host: r.Host,
		Body: string(body), Length: r.ContentLength, Close: r.Close, Header: r.Header, Encoding: r.TransferEncoding, Err: err != nil,
	}
}

// A textConn is a connection from which text can be read.
type textConn struct {
	net.Conn
	in io.Reader
}

func (c textConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// requestsOf returns the requests that the server reads from text, and the fault that ends them.
func requestsOf(text string) (all []seen, fault error) {
	server := &Server{parkAfter: testTimeout, patience: testTimeout}
	server.Limits.HeaderBytes, server.Limits.HeaderTimeout = 1<<20, testTimeout
	ours, theirs := net.Pipe()
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	c := newConn(server, textConn{ours, strings.NewReader(text)})
	if n, _ := c.receive(c.first[:]); n == 0 {
		return nil, io.EOF
	}
	s := newSession(c)
	defer s.release()
	s.watch.over = true
	for {
		head, err := s.readHead()
		if err != nil {
			return all, err
		}
		x, err := s.newExchange(&head)
		if err != nil {
			return all, err
		}
		if s.body != nil {
			s.body.expected = false
		}
		r := see(&x.request)
		all = append(all, r)
		if r.Err || r.Close {
			return all, io.EOF
		}
	}
}

// standardRequests returns the requests that net/http reads from text.
func standardRequests(text string) (all []seen) {
	in := bufio.NewReaderSize(strings.NewReader(text), 1<<20)
	for {
		for range 2 { // RFC 9112 section 2.2
			if line, _ := in.Peek(2); string(line) == "\r\n" {
				_, _ = in.Discard(2)
			}
		}
		r, err := http.ReadRequest(in)
		if err != nil {
			return all
		}
		delete(r.Header, "Host")
		s := see(r)
		if _, repaired := r.Header["Cache-Control"]; repaired && strings.Contains(strings.ToLower(text), "pragma") {
			delete(s.Header, "Cache-Control") // net/http adds it to Pragma: no-cache
		}
		if all = append(all, s); s.Err || s.Close {
			return all
		}
	}
}

// The server accepts a part of the requests that net/http accepts. Both read each accepted request alike, and
// both find its end at the same byte.
func FuzzRequests(f *testing.F) {
	for _, r := range smuggling.Requests("/a?b", "gate.test", "") {
		f.Add(r.Bytes + until)
	}
	for _, target := range []string{"/", "/a/b%2Fc?d=e&f;g#h", "//evil.test/", "/??", "/\"<>^`{|}", "/%zz", "/%", "/a?", "*", "http://a/b?c", "http://a", "a:443", "/\xc3\xa4", "/a%20b", "/~a-b_c.d"} {
		for _, method := range []string{"GET", "CONNECT", "get", "OPTIONS"} {
			f.Add(method + " " + target + " HTTP/1.1\r\nHost: b\r\n\r\n" + until)
		}
	}
	f.Add("GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\nCookie: a\r\ncookie: b\r\nCOOKIE: c\r\nX-y_z: 1\r\n\r\n" + until)
	f.Add("POST / HTTP/1.1\r\nHost: a\r\nTrailer: X, Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + until)
	f.Fuzz(func(t *testing.T, text string) {
		got, fault := requestsOf(text)
		var malformed http1.Error
		if !errors.As(fault, &malformed) && !errors.Is(fault, io.EOF) && !errors.Is(fault, io.ErrUnexpectedEOF) {
			t.Fatalf("%q: the fault is %v", text, fault)
		}
		want := standardRequests(text)
		for i, g := range got {
			if g.Err { // net/http may be more lenient about a body
				return
			}
			if i == len(want) {
				t.Fatalf("%q: net/http refuses request %d, which is %+v", text, i, g)
			}
			w := want[i]
			if g.Proto == "HTTP/1.0" { // the server closes such connections
				w.Close = true
			}
			if pragma := g.Header["Cache-Control"]; pragma != nil && g.Header["Pragma"] != nil {
				delete(g.Header, "Cache-Control")
				delete(w.Header, "Cache-Control")
			}
			if diff := cmp.Diff(w, g, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%q (-net/http +ours):\n%s", text, diff)
			}
		}
	})
}

// A malformed request gets the response of RefuseMalformed, at any place on a connection. Nothing after it
// is read.
func TestMalformed(t *testing.T) {
	s := newTestServer(t, echo)
	for text, want := range map[string]http1.Error{
		"GET / HTTP/1.1\r\n\r\n":               http1.ErrHosts,
		"GET / HTTP/1.1\n":                     http1.ErrLineEnd,
		"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n": http1.ErrTarget,
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n":             http1.ErrHeadSize,
		"GET /" + strings.Repeat("x", 100<<10):                                                    http1.ErrHeadSize,
		"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: x\r\n", http1.MaxFields) + "\r\n":    http1.ErrFields,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello":                http1.ErrLineEnd,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n": http1.ErrChunkEnd,
	} {
		for _, first := range []string{"", get} {
			got := s.ask(t, first+text+until)
			_, got, found := strings.Cut("x"+got, map[string]string{"": "x", get: "GET / "}[first])
			if !found || !strings.HasPrefix(got, "HTTP/1.1 ") || strings.Count(got, "HTTP/1.1 ") != 1 || !strings.Contains(got, "\r\nConnection: close\r\n") || !strings.HasSuffix(got, "refused") {
				t.Errorf("%.60q is answered with %q", text, got)
			}
			if fault := <-s.faults; fault != want {
				t.Errorf("%.60q: the fault is %v, want %v", text, fault, want)
			}
		}
	}
}

// A header up to the limit is accepted, also when it arrives in pieces, and the next request is not lost.
func TestHeaderSize(t *testing.T) {
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("X")[:1]) })
	head := func(size int, x string) string {
		const rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"
		return strings.Replace(rest, "X: ", "X: "+strings.Repeat(x, size-len(rest)), 1)
	}
	c := s.dial(t)
	in := bufio.NewReader(c)
	for _, size := range []int{100, 4095, 4096, 4097, 10000, 16384, 32<<10 - 1, 32 << 10} {
		text := head(size, "a") + head(size, "b") + head(100, "c")
		send(t, c, text[:size-1])
		send(t, c, text[size-1:size+2])
		send(t, c, text[size+2:])
		next(t, in, "a")
		next(t, in, "b")
		next(t, in, "c")
	}
}

// A header has the whole header timeout, also if its first bytes fill the buffer of a connection that is about
// to be parked.
func TestHeaderThatFillsTheBuffer(t *testing.T) {
	s := newTestServer(t, echo, plain)
	s.parkAfter = 100 * time.Millisecond
	c := s.dial(t)
	in := bufio.NewReader(c)
	send(t, c, get)
	next(t, in, "GET / ")
	head := "GET /2 HTTP/1.1\r\nHost: gate.test\r\nX: "
	send(t, c, head+strings.Repeat("x", http1.BufferSize-len(head)))
	time.Sleep(2 * s.parkAfter)
	send(t, c, "\r\n\r\n")
	next(t, in, "GET /2 ")
}

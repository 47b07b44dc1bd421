package http1guard

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/http1grammar"
)

// whole ends the body of r and returns it, the error of a malformed one too.
func whole(r *http.Request) (string, error) {
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

// next reads a request of text by net/http, and returns where it ends.
func next(text string) (end int, body string, err error) {
	from := strings.NewReader(text)
	in := bufio.NewReader(from)
	r, err := http.ReadRequest(in)
	if err != nil {
		return 0, "", err
	}
	body, err = whole(r)
	return len(text) - from.Len() - in.Buffered(), body, err
}

// A request of the scanner ends at the same byte for net/http, or net/http refuses it. A request that the
// scanner has not seen the end of is incomplete for net/http too. A malformed body stays malformed with
// the breakage in place of its rest.
func FuzzAgreement(f *testing.F) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
		"\r\n\r\n" + post + "Content-Length: 5\r\n\r\nhelloGET",
		post + "Transfer-Encoding: chunked\r\n\r\n5;a=\"b;\\\"\"\r\nhello\r\n0\r\nX: y\r\n\r\n\r\nGET",
		post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\n5\nhello", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n", post + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n z\r\n\r\n", post + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\r\n\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\n5;\x00\r\nhello\r\n0\r\n\r\n", post + "X: y\n\r\n", "GET /\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add(text, uint8(3))
		f.Add(text, uint8(255))
	}
	f.Fuzz(func(t *testing.T, text string, cut uint8) {
		var s http1grammar.Scanner
		from := 0 // of the request
		for at := 0; at < len(text); {
			skip, n, fault := s.Scan([]byte(text[at:min(len(text), at+1+int(cut))]))
			from, at = from+skip, at+n
			ours := text[from:at]
			switch {
			case fault != nil && s.HeadDone():
				if _, body, err := next(ours + breakage); err == nil {
					t.Fatalf("net/http takes %q and the breakage for a request with the body %q", ours, body)
				}
				return
			case s.Done():
				end, _, err := next(text[from:])
				if err != nil {
					return // it is stricter: about targets, and the length of trailers and extensions
				}
				if end != at-from {
					t.Fatalf("net/http ends %q at %d, the scanner at %d", text[from:], end, at-from)
				}
				from, s = at, http1grammar.Scanner{}
			case fault != nil || at == len(text):
				if _, body, err := next(ours); err == nil {
					t.Fatalf("net/http takes %q for a request with the body %q, which the scanner does not", ours, body)
				}
				return
			}
		}
	})
}

// A guarded is a connection whose Guard its server reads through.
type guarded struct {
	net.Conn
	guard *Guard
}

func (c *guarded) Read(p []byte) (int, error) { return c.guard.Read(p) }

type guardedListener struct {
	net.Listener
	refused chan error
}

func (l guardedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guarded{c, New(c, func(fault error) {
		l.refused <- fault
		_, _ = io.WriteString(c, "HTTP/1.1 400 refused\r\n\r\n")
		_ = c.Close()
	})}, nil
}

// serve runs a server that answers with the path and body of each request, and returns its
// address and the faults of connections.
func serve(t *testing.T, handler http.HandlerFunc) (address string, refused chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused = make(chan error, 10)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ConnState: func(c net.Conn, state http.ConnState) { c.(*guarded).guard.Changed(state) }}
	var wait sync.WaitGroup
	wait.Go(func() { _ = server.Serve(guardedListener{l, refused}) })
	t.Cleanup(func() {
		_ = server.Close()
		wait.Wait()
	})
	return l.Addr().String(), refused
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := whole(r)
	if err != nil {
		body = "malformed"
	}
	_, _ = io.WriteString(w, r.URL.Path+" "+body+";")
}

// ask sends text in pieces and returns the bodies of the answers, to the end of the connection.
func ask(t *testing.T, address, text string, piece int) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		for at := 0; at < len(text); at += piece {
			_, _ = io.WriteString(c, text[at:min(len(text), at+piece)])
			if piece < 10 {
				time.Sleep(10 * time.Microsecond)
			}
		}
	}()
	var all strings.Builder
	for in := bufio.NewReader(c); ; {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return all.String()
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		all.WriteString(answer.Status[4:] + " " + string(body))
	}
}

func TestGuard(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	address, refused := serve(t, echo)
	const (
		last   = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		get    = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
		chunks = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		both   = "POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
	)
	for _, tt := range []struct {
		text, want string
		fault      error
	}{
		{last, "OK /last ;", nil},
		{"\r\n" + get + "\r\n" + get + "\r\n\r\n" + last, "OK /1 ;OK /1 ;OK /last ;", nil},
		{chunks + "5\r\nhello\r\n0\r\nX: y\r\n\r\n" + get + last, "OK /2 hello;OK /1 ;OK /last ;", nil},
		{strings.Repeat(get, 150) + last, strings.Repeat("OK /1 ;", 150) + "OK /last ;", nil},
		{both + "0\r\n\r\n" + last, "refused ", http1grammar.ErrTwoLengths},
		{get + both + "0\r\n\r\n" + last, "OK /1 ;refused ", http1grammar.ErrTwoLengths},
		{"POST /4 HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + last, "refused ", http1grammar.ErrHTTP10},
		{get + "\x00" + last, "OK /1 ;refused ", http1grammar.ErrRequestLine},
		{"GET / HTTP/1.1\nHost: a\n\n" + last, "refused ", http1grammar.ErrRequestLine},
	} {
		for _, piece := range []int{1, 7, len(tt.text)} {
			if got := ask(t, address, tt.text, piece); got != tt.want {
				t.Errorf("to %.200q in pieces of %d: %.200q; want %.200q", tt.text, piece, got, tt.want)
			}
			var fault error
			select {
			case fault = <-refused:
			default:
			}
			if !errors.Is(fault, tt.fault) {
				t.Errorf("%.200q is refused with %v; want %v", tt.text, fault, tt.fault)
			}
		}
	}
}

// net/http refuses a body that turns out to be malformed while its request is answered, whatever part
// had been read. The bytes after it are not read.
func TestMalformedBody(t *testing.T) {
	address, refused := serve(t, echo)
	const (
		chunks = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		last   = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	)
	for _, body := range []string{
		"5\x00\r\nhello\r\n0\r\n\r\n", "5;a\x00\r\nhello\r\n0\r\n\r\n", "5;a=\"\x01\"\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5;a\r;\r\nhello\r\n0\r\n\r\n",
		"5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\r\nhello\r\n0\r\nX: \x00\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\n\r\n", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
		"5\r\nhello\r\n0\r\n\r\x00", "5\r\nhello\r\n0\r\n\n", "5\r\nhello\r\n0\r\nHost: b\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\r\n\r\r\n",
	} {
		if got := ask(t, address, chunks+body+last, 1); got != "OK /2 malformed;" && got != "OK /2 malformed;refused " {
			t.Errorf("to %q byte by byte: %q; want malformed", body, got)
		}
		select {
		case fault := <-refused:
			t.Errorf("%q is refused, with %v, after its answer", body, fault)
		default:
		}
		if got := ask(t, address, chunks+body+last, 1000); got != "refused " {
			t.Errorf("to %q in one piece: %q; want a refusal", body, got)
		}
		<-refused
	}
}

// Bytes behind a request that asks for an upgrade belong to the other protocol if that comes
// about.
func TestUpgrade(t *testing.T) {
	address, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/up" {
			echo(w, r)
			return
		}
		time.Sleep(20 * time.Millisecond) // net/http watches the client
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		received := make([]byte, 8)
		if _, err := io.ReadFull(buffered, received); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 switched\r\n\r\n"+string(received))
	})
	for _, path := range []string{"/up", "/1"} {
		const frames = "\x00\x81\r\n\x7f\xff!!"
		want := "OK /1 ;refused "
		if path == "/up" {
			want = "switched " + frames
		}
		for _, piece := range []int{1, 50, 1000} {
			if got := ask(t, address, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+frames, piece); got != want {
				t.Errorf("%s in pieces of %d: %q; want %q", path, piece, got, want)
			}
		}
	}
}

// A Guard that net/http leaves behind in the middle of a request lets nothing more be read.
func TestOutOfStep(t *testing.T) {
	var fault error
	g := New(strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel"), func(err error) { fault = err })
	p := make([]byte, 4096)
	if n, err := g.Read(p); n == 0 || err != nil {
		t.Fatalf("Read = %d, %v", n, err)
	}
	g.Changed(http.StateActive)
	g.Changed(http.StateIdle)
	if n, err := g.Read(p); n > 0 || err == nil || !errors.Is(fault, ErrOutOfStep) {
		t.Errorf("Read = %d, %v; refused with %v, want %v", n, err, fault, ErrOutOfStep)
	}
}

package fastpath

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallygate/tallygate/internal/gatetest"
)

// plains are plain, and others are not: net/http refuses them, or takes them with more care.
var plains = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a/b%2Fc?d=e&f;g#h HTTP/1.1\r\nhost:a:8443\r\nAccept: */*\r\nX:\r\nX: \t y z \t \r\n\r\n",
	"GET //evil.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD /?? HTTP/1.1\r\nHOST: [::1]\r\nPragma: no-cache\r\n\r\n",
	"OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t004 \r\nConnection: Keep-Alive\r\n\r\nbodyGET /next",
	"PUT / HTTP/1.1\r\nContent-Length: 0\r\nHost: a\r\n\r\n",
	"PATCH /\"<>^`{|} HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n",
	"DELETE / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: keep-alive\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\nCookie: e\r\n!#$%&'*+-.^_`|~09AZaz: x\r\n\r\n",
}

var others = []string{
	"",
	"G",
	"GET / HTTP/1.1\r\nHost: a\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n\r",
	"GET / HTTP/1.1\r\n\r\n",
	"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nX: y\rHost: a\r\n\r\n",
	"GET / HTTP/1.1\rX\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
	"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
	"GET / http/1.1\r\nHost: a\r\n\r\n",
	"GET /\r\nHost: a\r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /% HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
	"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
	"get / HTTP/1.1\r\nHost: a\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a/b\"\r\n\r\n",
	"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
	"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX\t: z\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX(): z\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa4: z\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\ntRANSFER-eNCODING: identity\r\nContent-Length: 4\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 3\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -4\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4 \v\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551620\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4294967300\r\n\r\nbody",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbody",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Authorization\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Tallygate-Partner\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: X\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
	"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n",
}

// received is a connection that has received all of text, as far as its buffer goes.
func received(text string) *conn {
	s := &conn{buffers: &buffers{in: bufio.NewReaderSize(strings.NewReader(text), 4<<10)}}
	_, _ = s.in.Peek(4 << 10)
	return s
}

func TestPlain(t *testing.T) {
	for _, text := range plains {
		if r, _ := received(text).next(); r == nil {
			t.Errorf("%q is not plain", text)
		}
	}
	for _, text := range others {
		r, unserved := received(text).next()
		if r != nil {
			t.Errorf("%q is plain", text)
		}
		if want := text[:min(len(text), 4<<10)]; !strings.EqualFold(string(unserved), want) { // net/http spells names in place
			t.Errorf("of %q is left %q", want, unserved)
		}
	}
}

// An asked is what a handler sees of a request.
type asked struct {
	Method, Target, Proto, Path, RawPath, Query, Host, Body string
	Length                                                  int64
	Close                                                   bool
	Header, Trailer                                         http.Header
	Encoding                                                []string
}

func seen(r *http.Request) asked {
	body, _ := io.ReadAll(r.Body)
	return asked{
		Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Path: r.URL.Path, RawPath: r.URL.RawPath, Query: r.URL.RawQuery, Host: r.Host,
		Body: string(body), Length: r.ContentLength, Close: r.Close, Header: r.Header, Trailer: r.Trailer, Encoding: r.TransferEncoding,
	}
}

// last is a request that a server sees where the one before it ends.
const last = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

// byNetHTTP returns what the handler of an http.Server sees of a connection that sends text.
func byNetHTTP(text string) (all []asked) {
	ours, its := net.Pipe()
	conns := &channelListener{conns: make(chan net.Conn, 1), over: make(chan struct{})}
	conns.conns <- its
	ended := make(chan struct{})
	server := http.Server{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { all = append(all, seen(r)) }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				close(ended)
			}
		},
	}
	go func() { _ = server.Serve(conns) }()
	go func() { _, _ = io.Copy(io.Discard, ours) }()
	_ = ours.SetDeadline(time.Now().Add(gatetest.Patience))
	_, _ = io.WriteString(ours, text)
	<-ended
	_ = ours.Close()
	close(conns.over)
	return all
}

// agree reports whether text is plain, and then demands that net/http takes it for the same
// request, which ends at the same byte.
func agree(t *testing.T, text string) bool {
	s := received(text)
	before := s.in.Buffered()
	r, unserved := s.next()
	if r == nil {
		if len(unserved) != before || !strings.EqualFold(text[:before], string(unserved)) { // net/http spells names in place
			t.Errorf("of %q is left %q", text, unserved)
		}
		return false
	}
	length := int(r.ContentLength)
	if length < 0 || length > s.in.Buffered() {
		t.Fatalf("%q has %d bytes of a body", text, length)
	}
	rest := s.in.Buffered() - length
	got := []asked{seen(r), seen(must(http.ReadRequest(bufio.NewReader(strings.NewReader(last)))))}
	want := byNetHTTP(text[:before-rest] + last)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%q (-net/http +ours):\n%s", text, diff)
	}
	return true
}

func must(r *http.Request, err error) *http.Request {
	if err != nil {
		panic(err)
	}
	return r
}

// A plain request is to net/http what it is here, and ends where it ends here: otherwise what
// follows it could be taken for something else than its sender meant.
func FuzzPlain(f *testing.F) {
	for _, text := range append(plains, others...) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !agree(t, string(text)) {
			return
		}
		// Nor does it depend on what follows.
		if !agree(t, string(text)+"\r\n") && len(text) < 4<<10-2 {
			t.Errorf("%q is plain only alone", text)
		}
	})
}

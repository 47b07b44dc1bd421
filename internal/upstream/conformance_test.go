package upstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A conformance is a response of an upstream and the result that a caller gets.
type conformance struct {
	name   string
	method string // GET by default
	body   string
	answer string
	hangUp bool // the server closes the connection after the response
	want   outcome
	kept   bool // the connection serves another request
}

// number returns the outcome of a response whose Content-Length is length and whose received body is body.
func number(status int, length int64, body string) outcome {
	return outcome{Status: status, Length: length, Body: body}
}

func (o outcome) with(name, value string) outcome {
	o.Header = http.Header{name: {value}}
	return o
}

func (o outcome) trailed(name, value string) outcome {
	o.Trailer = http.Header{name: {value}}
	return o
}

func (o outcome) informed(codes ...int) outcome {
	o.Informed = codes
	return o
}

func (o outcome) failed(class string) outcome {
	o.Err = class
	return o
}

var (
	broken = outcome{Err: "broken"}
	ok4    = number(200, 4, "fine")
)

var conformances = []conformance{
	{name: "length", answer: fine, want: ok4, kept: true},
	{name: "length, POST", method: "POST", body: "hello", answer: fine, want: ok4, kept: true},
	{name: "the longest body", method: "PUT", body: strings.Repeat("x", longestBody), answer: fine, want: ok4, kept: true},
	{name: "a body with GET", body: "hello", answer: fine, want: ok4, kept: true},
	{name: "bare line feeds", answer: "HTTP/1.1 200 OK\nContent-Length: 4\n\nfine", want: broken},
	{name: "no reason", answer: "HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nfine", want: ok4, kept: true},
	{name: "length 0", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", want: number(200, 0, ""), kept: true},
	{name: "the same length twice", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nfine", want: broken},
	{name: "folded field", answer: "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		want: broken},
	{name: "several of a field", answer: "HTTP/1.1 200 OK\r\nx-a: 1\r\nX-a: 2\r\nContent-Length: 0\r\n\r\n",
		want: outcome{Status: 200, Header: http.Header{"X-A": {"1", "2"}}}, kept: true},
	{name: "large", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("0123456789", 100_000),
		want: number(200, 1_000_000, strings.Repeat("0123456789", 100_000)), kept: true},

	{name: "chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n2;x=y\r\nne\r\n0\r\n\r\n", want: number(200, -1, "fine"), kept: true},
	{name: "chunks, trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nfine\r\n0\r\nX-Sum: 9\r\n\r\n",
		want: number(200, -1, "fine").trailed("X-Sum", "9"), kept: true},
	{name: "chunks, unannounced trailers", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nX-Sum: 9\r\n\r\n",
		want: number(200, -1, "fine").trailed("X-Sum", "9"), kept: true},
	{name: "a long trailer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nX-Sum: " + strings.Repeat("9", 16<<10) + "\r\n\r\n",
		want: number(200, -1, "fine").failed("broken")},
	{name: "a framing trailer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n", want: broken},
	{name: "chunks that break off", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfi", hangUp: true, want: number(200, -1, "fi").failed("broken")},
	{name: "chunks without a last one", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n", hangUp: true, want: number(200, -1, "fine").failed("broken")},
	{name: "a chunk's size is no number", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nfine\r\n0\r\n\r\n", want: number(200, -1, "").failed("broken")},
	{name: "a chunk's size is no number, and no more comes", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", want: number(200, -1, "").failed("broken")},
	{name: "a chunk's size is too large", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nfine\r\n0\r\n\r\n", want: number(200, -1, "").failed("broken")},
	{name: "another encoding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", want: broken},
	{name: "two encodings", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: broken},
	{name: "chunks and a length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n", want: broken},
	{name: "a length and chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ncontent-length: 2\r\n\r\n4\r\nfine\r\n0\r\n\r\n", want: broken},
	{name: "chunks from long ago", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nfine",
		want: broken},

	{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nfine", want: broken},
	{name: "a list of lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\nfine", want: broken},
	{name: "a signed length", answer: "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nfine", want: broken},
	{name: "a negative length", answer: "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nfine", want: broken},
	{name: "too short", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi", hangUp: true, want: number(200, 4, "fi").failed("broken")},
	{name: "too long", answer: fine + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", want: ok4},
	{name: "a blank line too many", answer: fine + "\r\n", want: ok4},

	{name: "HEAD", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", want: number(200, 4, ""), kept: true},
	{name: "HEAD, chunks", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", want: number(200, -1, ""), kept: true},
	{name: "HEAD, no length", method: "HEAD", answer: "HTTP/1.1 200 OK\r\n\r\n", want: number(200, -1, ""), kept: true},
	{name: "HEAD with a body", method: "HEAD", answer: fine, want: number(200, 4, "")},
	{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", want: number(204, 0, ""), kept: true},
	{name: "204 with a body", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nfine", want: number(204, 0, "")},
	{name: "304", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", want: number(304, 4, ""), kept: true},
	{name: "304 with a body", answer: "HTTP/1.1 304 Not Modified\r\n\r\nfine", want: number(304, 0, "")},

	{name: "until the end", answer: "HTTP/1.1 200 OK\r\n\r\nfine", hangUp: true, want: number(200, -1, "fine")},
	{name: "close", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine", want: ok4},
	{name: "close among others", answer: "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 4\r\n\r\nfine", want: ok4},
	{name: "close without a body", answer: "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", want: number(204, 0, "")},
	{name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\n\r\nfine", hangUp: true, want: number(200, -1, "fine")},
	{name: "HTTP/1.0 with a length", answer: "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfine", want: ok4},
	{name: "HTTP/1.0, keep-alive", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nfine",
		want: outcome{Status: 200, Length: 4, Body: "fine"}},
	{name: "HTTP/1.2", answer: "HTTP/1.2 200 OK\r\nContent-Length: 4\r\n\r\nfine", want: broken},

	{name: "100", answer: "HTTP/1.1 100 Continue\r\n\r\n" + fine, want: ok4.informed(100), kept: true},
	{name: "many informational answers", answer: "HTTP/1.1 102 Processing\r\n\r\n" + strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 10) + fine,
		want: ok4.informed(102, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103), kept: true},
	{name: "103 and no more", answer: "HTTP/1.1 103 Early Hints\r\n\r\n", hangUp: true, want: broken.informed(103)},
	{name: "an unasked switch", answer: "HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n", want: broken},
	{name: "a status of one digit", answer: "HTTP/1.1 2 OK\r\n\r\n", want: broken},
	{name: "a status of letters", answer: "HTTP/1.1 abc OK\r\n\r\n", want: broken},
	{name: "no HTTP", answer: "SSH-2.0-OpenSSH_9.2\r\n", want: broken},
	{name: "TLS", answer: "\x15\x03\x01\x00\x02\x02\x46", hangUp: true, want: broken},
	{name: "nothing", hangUp: true, want: broken},
	{name: "half a status line", answer: "HTTP/1.1 20", hangUp: true, want: broken},
	{name: "half a header", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX", hangUp: true, want: broken},
	{name: "no colon", answer: "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n", want: broken},
	{name: "a space before the colon", answer: "HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nfine", hangUp: true, want: broken},
	{name: "a NUL", answer: "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 4\r\n\r\nfine", want: broken},
	{name: "the longest header", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: " + strings.Repeat("x", limit-500) + "\r\n\r\nfine",
		want: outcome{Status: 200, Length: 4, Body: "fine", Header: http.Header{"X": {strings.Repeat("x", limit-500)}}}, kept: true},
	{name: "a long header", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: " + strings.Repeat("x", limit) + "\r\n\r\nfine", want: broken},
	{name: "many fields", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", limit/6) + "Content-Length: 4\r\n\r\nfine", want: broken},
	{name: "a long status line", answer: "HTTP/1.1 200 " + strings.Repeat("x", limit) + "\r\nContent-Length: 4\r\n\r\nfine", want: broken},
	{name: "gzip nobody asked for", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nfine",
		want: outcome{Status: 200, Length: 4, Body: "fine", Header: http.Header{"Content-Encoding": {"gzip"}}}, kept: true},
}

// Each response in the table has its expected outcome with and without TLS, and the connection is reused only where
// the table says so.
func TestConformance(t *testing.T) {
	settings, trusting := secure()
	for _, tt := range conformances {
		for _, encrypted := range []bool{false, true} {
			offered, client := settings, trusting
			if !encrypted {
				offered, client = nil, nil
			}
			t.Run(fmt.Sprintf("%s, TLS %v", tt.name, encrypted), func(t *testing.T) {
				t.Parallel()
				s := listen(t, offered, answering(tt.answer, tt.hangUp))
				direct := clientOf(t, s, client, enough)
				for n := range int64(2) {
					got := ask(direct, request(t, tt.method, tt.body))
					if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("request %d (-want +got):\n%s", n, diff)
					}
					if s.requests.Load() != n+1 {
						t.Errorf("request %d reached the server %d times", n, s.requests.Load()-n)
					}
				}
				if got := s.connections.Load() == 1; got != tt.kept {
					t.Errorf("the connection is kept: %v, want %v", got, tt.kept)
				}
			})
		}
	}
}

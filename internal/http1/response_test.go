package http1

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ok = "HTTP/1.1 200 OK\r\n"

var validResponses = []struct {
	text, method string
	want         Response
	body         string
	trailer      []Field
	rest         int // the length of what follows the body
}{
	{ok + "content-length: 5\r\nX: \t y \r\n\r\nhelloHTTP", "GET", Response{200, 1, []Field{{"content-length", "5"}, {"X", "y"}}, 5}, "hello", nil, 4},
	{ok + "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\nGrpc-Status: 0\r\n\r\nHTTP", "GET", Response{200, 1, []Field{{"Transfer-Encoding", "Chunked"}}, Chunked}, "hello", []Field{{"Grpc-Status", "0"}}, 4},
	{ok + "\r\nhello", "GET", Response{200, 1, nil, UntilClose}, "hello", nil, 0},
	{ok + "\r\nHTTP", "HEAD", Response{200, 1, nil, UntilClose}, "", nil, 4},
	{ok + "Content-Length: 5\r\n\r\nHTTP", "HEAD", Response{200, 1, []Field{{"Content-Length", "5"}}, 5}, "", nil, 4},
	{ok + "Transfer-Encoding: chunked\r\n\r\nHTTP", "HEAD", Response{200, 1, []Field{{"Transfer-Encoding", "chunked"}}, Chunked}, "", nil, 4},
	{"HTTP/1.0 200 OK\r\n\r\nhello", "GET", Response{200, 0, nil, UntilClose}, "hello", nil, 0},
	{"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", Response{200, 0, []Field{{"Content-Length", "5"}}, 5}, "hello", nil, 0},
	{"HTTP/1.1 204\r\n\r\nHTTP", "GET", Response{204, 1, nil, UntilClose}, "", nil, 4},
	{"HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\nHTTP", "GET", Response{204, 1, []Field{{"Content-Length", "5"}}, 5}, "", nil, 4},
	{"HTTP/1.1 304 \xff\t!\r\nContent-Length: 5\r\n\r\nHTTP", "GET", Response{304, 1, []Field{{"Content-Length", "5"}}, 5}, "", nil, 4},
	{"HTTP/1.1 100 Continue\r\n\r\nHTTP", "GET", Response{100, 1, nil, UntilClose}, "", nil, 4},
	{"HTTP/1.1 103\r\nLink: a\r\n\r\nHTTP", "GET", Response{103, 1, []Field{{"Link", "a"}}, UntilClose}, "", nil, 4},
	{"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\nHTTP", "GET", Response{205, 1, []Field{{"Content-Length", "0"}}, 0}, "", nil, 4},
	{"HTTP/1.1 999 \r\nContent-Length: 0\r\nHost: a b\r\nHost: c\r\n\r\n", "GET", Response{999, 1, []Field{{"Content-Length", "0"}, {"Host", "a b"}, {"Host", "c"}}, 0}, "", nil, 0},
}

func TestParseResponse(t *testing.T) {
	for _, c := range validResponses {
		for _, n := range []int{1, 7, len(c.text)} {
			r, body, trailer, end, err := readResponse(c.text, c.method, n)
			if body != c.body || end != len(c.text)-c.rest || err != nil {
				t.Errorf("%q to %s in pieces of %d: got %q, the end at %d, %v, want %q, %d, nil", c.text, c.method, n, body, end, err, c.body, len(c.text)-c.rest)
			}
			if diff := cmp.Diff(c.want, r) + cmp.Diff(c.trailer, trailer); diff != "" {
				t.Errorf("%q (-want +got):\n%s", c.text, diff)
			}
		}
	}
}

var malformedResponses = []struct {
	err   Error
	texts []string
}{
	{ErrStatusLine, []string{
		"\r\n", "\r\nHTTP/1.1 200 OK\r\n", "HTTP/1.1\r\n", "HTTP/1.1 20\r\n", "HTTP/1.1 2000\r\n", "HTTP/1.1 200OK\r\n", "HTTP/1.1  200 OK\r\n", "HTTP/1.1\t200 OK\r\n", "HTTP/1.1 200\tOK\r\n",
		"HTTP/1.1 099 OK\r\n", "HTTP/1.1 000 OK\r\n", "HTTP/1.1 -20 OK\r\n", "HTTP/1.1 2x0 OK\r\n", "HTTP/1.1 20x OK\r\n", "HTTP/1.1 OK\r\n", "HTTP/1.1 200 \x00\r\n", "HTTP/1.1 200 a\x7f", "ICY 200 OK\r\n", "HTTP/11 200 OK\r\n", "hello\r\n", " HTTP/1.1 200 OK\r\n",
	}},
	{ErrVersion, []string{"HTTP/1.2 200 OK\r\n", "HTTP/2.0 200 OK\r\n", "http/1.1 200 OK\r\n", "HTTP/0.9 200 OK\r\n"}},
	{ErrLineEnd, []string{"\n", "HTTP/1.1 200 OK\n", "HTTP/1.1 200 a\rb\r\n", "HTTP/1.1 200 OK\r\nX: a\n", "HTTP/1.1 200 OK\r\nX: a\rb\r\n", "HTTP/1.1 200 OK\r\n\n", "HTTP/1.1 200 OK\r\n\r\r\n"}},
	{ErrFolded, []string{"HTTP/1.1 200 OK\r\n X: a\r\n", "HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\n"}},
	{ErrFieldName, []string{
		"HTTP/1.1 200 OK\r\nX : a\r\n", "HTTP/1.1 200 OK\r\n: a\r\n", "HTTP/1.1 200 OK\r\nX\r\n", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n", "HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\n",
	}},
	{ErrFieldValue, []string{"HTTP/1.1 200 OK\r\nX: \x00\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\vchunked\r\n"}},
	{ErrContentLength, []string{"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n", "HTTP/1.1 204\r\nContent-Length: -1\r\n", "HTTP/1.1 304\r\nContent-Length:\r\n"}},
	{ErrContentLengths, []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n", "HTTP/1.1 304\r\nContent-Length: 5\r\ncontent-length: 6\r\n"}},
	{ErrTransferEncoding, []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.1 204\r\nTransfer-Encoding: identity\r\n"}},
	{ErrTwoLengths, []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 304\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"}},
	{ErrHTTP10, []string{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}},
	{ErrTrailer, []string{"HTTP/1.1 200 OK\r\nTrailer: Content-Length\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n"}},
	{ErrFields, []string{"HTTP/1.1 200 OK\r\n" + strings.Repeat("a:\r\n", MaxFields+1)}},
	{ErrChunkSize, []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"}},
}

func TestMalformedResponse(t *testing.T) {
	for _, c := range malformedResponses {
		for _, text := range c.texts {
			for _, n := range []int{1, 2, 7, len(text)} {
				if r, body, _, _, err := readResponse(text, "GET", n); !errors.Is(err, c.err) {
					t.Errorf("%.200q in pieces of %d: got %v, %q, %v, want %v", text, n, r, body, err, c.err)
				}
			}
		}
	}
}

// A truncated response is never a whole response.
func TestTruncatedResponse(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
	} {
		for cut := range len(text) {
			if r, body, _, _, err := readResponse(text[:cut], "GET", 100); err != io.ErrUnexpectedEOF { //nolint:errorlint // not wrapped
				t.Errorf("%q: got %v, %q, %v, want %v", text[:cut], r, body, err, io.ErrUnexpectedEOF)
			}
		}
	}
}

func TestPersistent(t *testing.T) {
	for text, want := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n":                                true,
		"HTTP/1.1 200 OK\r\nConnection: a\r\nConnection: b, CLOSE ,c\r\n\r\n":         false,
		"HTTP/1.1 200 OK\r\nConnection: closed, clo\u017fe\r\n\r\n":                   true,
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n":      false,
		"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n":                        true,
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n":                        false,
		"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n":               false,
		"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n":                       false,
		"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n":              false,
		"HTTP/1.1 103 Early Hints\r\n\r\n":                                            true,
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n":                      true,
		"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n":             true,
		"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\nUpgrade: a\r\n\r\n": true,
	} {
		r, _, err := new(Parser).ParseResponse([]byte(text), nil)
		if got := r.Persistent(); got != want || err != nil {
			t.Errorf("%q: got %t, %v, want %t", text, got, err, want)
		}
	}
}

// Names and tokens are compared without regard to the case of ASCII letters. The case of other letters matters.
func TestHasToken(t *testing.T) {
	fields := []Field{{"Connection", "keep-alive, X-Ticket"}, {"X", "close"}, {"CONNECTION", "\tUpgrade "}, {"\u212aeep", "a"}}
	for token, want := range map[string]bool{"keep-alive": true, "x-ticket": true, "upgrade": true, "close": false, "x": false, "x-tic\u212aet": false, "": false} {
		if got := HasToken(fields, "connection", token); got != want {
			t.Errorf("HasToken(%q) = %t, want %t", token, got, want)
		}
	}
	if !Has(fields, "x") || Has(fields, "keep") || Has(fields, "kkeep") || Has(fields, "") {
		t.Error("Has does not find the names")
	}
}

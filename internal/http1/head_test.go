package http1

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRequest(t *testing.T) {
	const received = "\r\nPOST /a?b=c HTTP/1.1\r\nHost: api.test\r\nx-odd: \t a b \r\nContent-Length: 5\r\nEmpty:\r\n\r\nhello"
	want := Request{
		Method: "POST", Target: "/a?b=c", Minor: 1, Host: "api.test", Length: 5,
		Fields: []Field{{"Host", "api.test"}, {"x-odd", "a b"}, {"Content-Length", "5"}, {"Empty", ""}},
	}
	var p Parser
	got, n, err := p.ParseRequest([]byte(received), nil)
	if diff := cmp.Diff(want, got); err != nil || n != len(received)-len("hello") || diff != "" {
		t.Errorf("ParseRequest(%q) = _, %d, %v, want %d, nil (-want +got):\n%s", received, n, err, len(received)-5, diff)
	}
	p.Reset()
	for i := range n { // in pieces
		r, m, err := p.ParseRequest([]byte(received)[:i], nil)
		if m != 0 || err != nil {
			t.Fatalf("ParseRequest of %d bytes = %v, %d, %v, want an incomplete head", i, r, m, err)
		}
	}
	got, m, err := p.ParseRequest([]byte(received), nil)
	if diff := cmp.Diff(want, got); err != nil || m != n || diff != "" {
		t.Errorf("ParseRequest in pieces = _, %d, %v, want %d, nil (-want +got):\n%s", m, err, n, diff)
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for received, want := range map[string]error{
		"\r\n\r\n\r\n":                                                 ErrEmptyLines,
		"GET / HTTP/1.1\n":                                             ErrLineEnd,
		"GET / HTTP/1.1\r\nA: b\rc":                                    ErrLineEnd,
		"GET  / HTTP/1.1\r\n":                                          ErrRequestLine,
		"GET /\r\n":                                                    ErrRequestLine,
		"GET / HTTP/1.2\r\n":                                           ErrVersion,
		"GET / HTTP/1.1 \r\n":                                          ErrVersion,
		"GET / HTTP/1.1\r\n A: b\r\n":                                  ErrFolded,
		"GET / HTTP/1.1\r\nA : b\r\n":                                  ErrFieldName,
		"GET / HTTP/1.1\r\n: b\r\n":                                    ErrFieldName,
		"GET / HTTP/1.1\r\nA: \x00\r\n":                                ErrFieldValue,
		"GET / HTTP/1.1\r\nHost: a b\r\n":                              ErrHost,
		"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n":                     ErrHosts,
		"GET / HTTP/1.1\r\n\r\n":                                       ErrHosts,
		"GET / HTTP/1.1\r\nContent-Length: +1\r\n":                     ErrContentLength,
		"GET / HTTP/1.1\r\nContent-Length:\r\n":                        ErrContentLength,
		"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n":                   ErrContentLength,
		"GET / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n": ErrContentLengths,
		"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n":       ErrTransferEncoding,
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n": ErrTwoLengths,
		"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n":                                 ErrHTTP10,
		"GET / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n":                            ErrContentLength,
	} {
		if r, n, err := new(Parser).ParseRequest([]byte(received), nil); !errors.Is(err, want) {
			t.Errorf("ParseRequest(%q) = %v, %d, %v, want %v", received, r, n, err, want)
		}
	}
}

func TestBody(t *testing.T) {
	for _, c := range []struct {
		name, received string
		length         int64
		content        string
		trailer        []Field
		err            error
	}{
		{"counted", "helloGET", 5, "hello", nil, nil},
		{"empty", "GET", 0, "", nil, nil},
		{"short", "hel", 5, "hel", nil, io.ErrUnexpectedEOF},
		{"until close", "hello", UntilClose, "hello", nil, nil},
		{"chunked", "5\r\nhello\r\n1;a=\"b;\";c\r\n!\r\n0\r\nX: y\r\n\r\nGET", Chunked, "hello!", []Field{{"X", "y"}}, nil},
		{"cut off", "5\r\nhello\r\n", Chunked, "hello", nil, io.ErrUnexpectedEOF},
		{"bare LF", "5\nhello\r\n0\r\n\r\n", Chunked, "", nil, ErrLineEnd},
		{"long chunk", "2\r\nhello\r\n0\r\n\r\n", Chunked, "he", nil, ErrChunkEnd},
		{"sign", "+5\r\nhello\r\n0\r\n\r\n", Chunked, "", nil, ErrChunkSize},
		{"17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", Chunked, "", nil, ErrChunkSize},
		{"space after size", "5 \r\nhello\r\n0\r\n\r\n", Chunked, "", nil, ErrChunkExtension},
		{"NUL in extension", "5;\x00\r\nhello\r\n0\r\n\r\n", Chunked, "", nil, ErrChunkExtension},
		{"framing trailer", "0\r\nContent-Length: 1\r\n\r\n", Chunked, "", nil, ErrTrailer},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := bufio.NewReader(strings.NewReader(c.received))
			var b Body
			b.Reset(in, c.length)
			content, err := io.ReadAll(&b)
			if string(content) != c.content || !errors.Is(err, c.err) || b.Done() != (c.err == nil) {
				t.Errorf("got %q, %v, done %t, want %q, %v", content, err, b.Done(), c.content, c.err)
			}
			if diff := cmp.Diff(c.trailer, b.Trailer()); diff != "" {
				t.Errorf("trailer (-want +got):\n%s", diff)
			}
			if rest, _ := io.ReadAll(in); c.err == nil && strings.HasSuffix(c.received, "GET") != (string(rest) == "GET") {
				t.Errorf("bytes after the body: got %q", rest)
			}
		})
	}
}

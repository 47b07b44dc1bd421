package http1grammar

import (
	"strings"
	"testing"
)

// scan follows text in pieces of n bytes and returns the ends of the requests in it, what is
// left unread, and the error.
func scan(text string, n int) (ends []int, rest string, err error) {
	var s Scanner
	for at := 0; at < len(text); {
		_, read, err := s.Scan([]byte(text[at:min(at+n, len(text))]))
		at += read
		if err != nil {
			return ends, text[at:], err
		}
		if s.Done() {
			ends = append(ends, at)
			s = Scanner{}
		}
	}
	if s.Started() {
		return ends, "unfinished", nil
	}
	return ends, "", nil
}

const (
	get    = "GET / HTTP/1.1\r\nHost: a\r\n"
	post   = "POST / HTTP/1.1\r\nHost: a\r\n"
	chunks = post + "Transfer-Encoding: chunked\r\n\r\n"
)

// whole are single requests.
var whole = []string{
	get + "\r\n",
	"\r\n" + get + "\r\n",
	"\r\n\r\n" + get + "\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"GET / HTTP/1.0\r\nHost:\r\nConnection: keep-alive\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nhost:\ta:8443 \t\r\n\r\n",
	"GET https://a/b?c HTTP/1.1\r\nHOST: [::1]\r\n\r\n",
	"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
	"M!#$%&'*+-.^_`|~9 /\xc3\xa4\"<> HTTP/1.1\r\nHost: a\r\n\r\n",
	get + "X:\r\nX: \t y\x80\xff z\t \r\nContent_Length: 5\r\n\r\n",
	get + "Transfer-Encodings: gzip\r\nContent-Lengt: x\r\n\r\n",
	post + "Content-Length: 0\r\n\r\n",
	post + "cONTENT-lENGTH:\t005 \r\n\r\nhello",
	post + "Content-Length: 5\r\nConnection: keep-alive\r\n\r\n\r\n\r\nx",
	"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
	chunks + "0\r\n\r\n",
	chunks + "00000000000000a\r\n0123456789\r\n0000000000000000\r\n\r\n",
	chunks + "5\r\nhello\r\nA\r\n0123456789\r\n000\r\nSum: x\r\nContent_Length: 9\r\n\r\n",
	chunks + "5;a\r\nhello\r\n0 ; a ; b=c\t;\td = \"e\\\"\xff\t;\\\\\"\r\n\r\n",
	post + "tRANSFER-eNCODING: \tChUnKeD\t\r\n\r\n0\r\n\r\n",
}

// malformed are requests with what is the matter with them. Each
// fails at the byte behind its last "!".
var malformed = []struct {
	text string
	err  Error
}{
	{"\r\n\r\n!\r\n", ErrEmptyLines},
	{"!\n", ErrRequestLine}, {"\r!G", ErrLineEnd}, {"! GET", ErrRequestLine}, {"!\x16\x03\x01", ErrRequestLine},
	{"GET!\t/ HTTP/1.1\r\n", ErrRequestLine}, {"GET ! / HTTP/1.1\r\n", ErrRequestLine}, {"GET / !\x00 HTTP/1.1\r\n", ErrVersion},
	{"GET /!\x00", ErrRequestLine}, {"GET /!\x7f", ErrRequestLine}, {"GET /!\r\n", ErrRequestLine}, {"GET /!\n", ErrRequestLine},
	{"GET / !http/1.1\r\n", ErrVersion}, {"GET / HTTP/!2.0\r\n", ErrVersion}, {"GET / HTTP/1.!2\r\n", ErrVersion}, {"GET / HTTP/!01.1\r\n", ErrVersion},
	{"GET / HTTP/1.1! \r\n", ErrRequestLine}, {"GET / HTTP/1.1!\n", ErrRequestLine}, {"GET / HTTP/1.1\r!X", ErrLineEnd}, {"PRI * HTTP/!2.0\r\n", ErrVersion},
	{"GET / HTTP/1.1\r\n! Host: a\r\n", ErrFolded}, {get + "X: a\r\n! b\r\n", ErrFolded}, {post + "Content-Length:!\r\n 5", ErrContentLength},
	{get + "!: x\r\n", ErrFieldName}, {get + "X! : y\r\n", ErrFieldName}, {get + "X!\r\n", ErrFieldName}, {get + "X!\xc3\xa4: y\r\n", ErrFieldName},
	{get + "X!\x01: y\r\n", ErrFieldName}, {get + "!\nX: y\r\n", ErrFieldName}, {get + "Transfer-Encoding! : chunked\r\n", ErrFieldName},
	{get + "X: a!\nY: b\r\n", ErrLineEnd}, {get + "X: a\r!Y: b\r\n", ErrLineEnd}, {get + "X: a!\x00\r\n", ErrFieldValue}, {get + "X: a!\x7f\r\n", ErrFieldValue},
	{get + "X:!\vchunked\r\n", ErrFieldValue}, {get + "\r!X", ErrLineEnd},
	{"GET / HTTP/1.1\r\n\r!\n", ErrHosts}, {get + "Host!: a\r\n", ErrHosts}, {"GET / HTTP/1.0\r\nHost: a\r\nhost!: b\r\n", ErrHosts},
	{"GET / HTTP/1.1\r\nHost: a !b\r\n", ErrHost}, {"GET / HTTP/1.1\r\nHost: a!@b\r\n", ErrHost}, {"GET / HTTP/1.1\r\nHost: a!/b\r\n", ErrHost},
	{post + "Content-Length: !+5\r\n", ErrContentLength}, {post + "Content-Length: !-5\r\n", ErrContentLength}, {post + "Content-Length: 0!x5\r\n", ErrContentLength},
	{post + "Content-Length: 5!, 5\r\n", ErrContentLength}, {post + "Content-Length: 5 !5\r\n", ErrContentLength}, {post + "Content-Length: !\r\n", ErrContentLength},
	{post + "Content-Length: 922337203685477580!8\r\n", ErrContentLength}, {post + "Content-Length: 9223372036854775807!0\r\n", ErrContentLength},
	{post + "Content-Length: 5\r\nContent-Length!: 5\r\n", ErrContentLengths}, {post + "Content-Length: 5\r\ncontent-length!: 6\r\n", ErrContentLengths},
	{post + "Transfer-Encoding: !xchunked\r\n", ErrTransferEncoding}, {post + "Transfer-Encoding: chunked!x\r\n", ErrTransferEncoding},
	{post + "Transfer-Encoding: chunke!\r\n", ErrTransferEncoding}, {post + "Transfer-Encoding: !\r\n", ErrTransferEncoding}, {post + "Transfer-Encoding: !identity\r\n", ErrTransferEncoding},
	{post + "Transfer-Encoding: chunked!, identity\r\n", ErrTransferEncoding}, {post + "Transfer-Encoding: !gzip, chunked\r\n", ErrTransferEncoding},
	{post + "Transfer-Encoding: chunked\r\nTransfer-Encoding!: chunked\r\n", ErrTransferEncoding}, {post + "Transfer-Encoding: chunked !chunked\r\n", ErrTransferEncoding},
	{post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r!\n", ErrTwoLengths}, {post + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r!\n", ErrTwoLengths},
	{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r!\n", ErrHTTP10}, {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r!\n", ErrTwoLengths},
	{chunks + "!\r\n", ErrChunkSize}, {chunks + "!-5\r\n", ErrChunkSize}, {chunks + "!+5\r\n", ErrChunkSize}, {chunks + "0!x5\r\n", ErrChunkSize}, {chunks + "! 5\r\n", ErrChunkSize},
	{chunks + "FFFFFFFFFFFFFFFF!F\r\n", ErrChunkSize}, {chunks + "0000000000000000!5\r\n", ErrChunkSize}, {chunks + "5!\nhello", ErrLineEnd}, {chunks + "5\r!h", ErrLineEnd},
	{chunks + "5!\x00\r\n", ErrChunkSize}, {chunks + "5 !\r\n", ErrChunkExtension}, {chunks + "5;!\r\n", ErrChunkExtension}, {chunks + "5;a=!\r\n", ErrChunkExtension}, {chunks + "5 !a\r\n", ErrChunkExtension},
	{chunks + "5;a!\x00\r\n", ErrChunkExtension}, {chunks + "5;a!\nhello", ErrChunkExtension}, {chunks + "5;a\r!b\r\n", ErrLineEnd}, {chunks + "5;a=b!\x01\r\n", ErrChunkExtension}, {chunks + "5;a !\r\n", ErrChunkExtension},
	{chunks + "5;a=\"b!\r\n", ErrChunkExtension}, {chunks + "5;a=\"b!\x00\"\r\n", ErrChunkExtension}, {chunks + "5;a=\"b\\!\x00\"\r\n", ErrChunkExtension}, {chunks + "5;a=\"b\"!c\r\n", ErrChunkExtension}, {chunks + "5;a=b!=c\r\n", ErrChunkExtension},
	{chunks + "5\r\nhello!world", ErrChunkEnd}, {chunks + "5\r\nhello!\n0", ErrChunkEnd}, {chunks + "5\r\nhello\r!\r\n", ErrChunkEnd},
	{chunks + "0\r\n!\n", ErrFieldName}, {chunks + "0\r\n\r!G", ErrLineEnd}, {chunks + "0\r\nX: a!\x00\r\n", ErrFieldValue}, {chunks + "0\r\nX: a!\n", ErrLineEnd}, {chunks + "0\r\nX: a\r\n! b\r\n", ErrFolded},
	{chunks + "0\r\nContent-Length!: 5\r\n", ErrTrailer}, {chunks + "0\r\ntransfer-encoding!: x\r\n", ErrTrailer}, {chunks + "0\r\nHost!: b\r\n", ErrTrailer}, {chunks + "0\r\nGET! / HTTP/1.1\r\n", ErrFieldName},
}

func TestScan(t *testing.T) {
	for _, text := range whole {
		for n := 1; n <= len(text); n++ {
			if ends, rest, err := scan(text, n); err != nil || rest != "" || len(ends) != 1 || ends[0] != len(text) {
				t.Fatalf("scan(%q) in pieces of %d = %v, %q, %v; want one request", text, n, ends, rest, err)
			}
		}
		if ends, rest, err := scan(text+text, len(text)+1); err != nil || rest != "" || len(ends) != 2 || ends[0] != len(text) {
			t.Errorf("scan(%q twice) = %v, %q, %v; want two requests", text, ends, rest, err)
		}
		for n := range text {
			if ends, rest, err := scan(text[:n], len(text)); len(ends) > 0 || err != nil || rest == "" && strings.Trim(text[:n], "\r\n") != "" {
				t.Errorf("scan(%q) = %v, %q, %v; want an unfinished request", text[:n], ends, rest, err)
			}
		}
	}
	for _, tt := range malformed {
		at := strings.LastIndexByte(tt.text, '!')
		text, behind := tt.text[:at]+tt.text[at+1:], tt.text[at+1:]
		for n := 1; n <= len(text); n++ {
			if ends, rest, err := scan(text, n); err != tt.err || rest != behind || len(ends) > 0 { //nolint:errorlint // not wrapped
				t.Fatalf("scan(%q) in pieces of %d = %v, %q, %v; want %v before %q", text, n, ends, rest, err, tt.err, behind)
			}
		}
	}
}

func TestScanAllocates(t *testing.T) {
	text := []byte(whole[len(whole)-2])
	if n := testing.AllocsPerRun(100, func() {
		var s Scanner
		if _, _, err := s.Scan(text); err != nil || !s.Done() {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("Scan allocates %v times; want never", n)
	}
}

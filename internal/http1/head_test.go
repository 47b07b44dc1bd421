package http1

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRequest(t *testing.T) {
	const text = "\r\nPOST /a?b=c HTTP/1.1\r\nHost: api.test\r\nx-odd: \t a b \r\nContent-Length: 5\r\nEmpty:\r\n\r\nhello"
	want := Request{
		Method: "POST", Target: "/a?b=c", Minor: 1, Host: "api.test", Length: 5,
		Fields: []Field{{"Host", "api.test"}, {"x-odd", "a b"}, {"Content-Length", "5"}, {"Empty", ""}},
	}
	arrived := []byte(text)
	end := len(text) - len("hello")
	var p Parser
	got, n, err := p.ParseRequest(arrived, nil)
	if diff := cmp.Diff(want, got); err != nil || n != end || diff != "" {
		t.Errorf("ParseRequest(%q) = _, %d, %v, want %d, nil (-want +got):\n%s", arrived, n, err, end, diff)
	}
	p.Reset()
	for i := range end { // byte by byte
		if r, n, err := p.ParseRequest(arrived[:i], nil); n != 0 || err != nil {
			t.Fatalf("ParseRequest(%q) = %v, %d, %v, want an incomplete head", arrived[:i], r, n, err)
		}
	}
	got, n, err = p.ParseRequest(arrived, nil)
	clear(arrived)
	if diff := cmp.Diff(want, got); err != nil || n != end || diff != "" {
		t.Errorf("ParseRequest(%q) byte by byte = _, %d, %v, want %d, nil (-want +got):\n%s", text, n, err, end, diff)
	}
}

// The parser reads the same request for all sizes of the pieces in which its bytes arrive. A request is
// incomplete until its last byte has arrived. It ends before the next request.
func TestValid(t *testing.T) {
	for _, text := range valid {
		want, _, err := readRequests(text, len(text))
		if len(want) != 1 || err != io.EOF || want[0].End != len(text) { //nolint:errorlint // not wrapped
			t.Errorf("%.100q: got %v, %v, want one request", text, want, err)
			continue
		}
		for _, n := range []int{1, 2, 3, 7, 100} {
			if got, _, err := readRequests(text, n); !cmp.Equal(want, got) || err != io.EOF { //nolint:errorlint // not wrapped
				t.Errorf("%.100q in pieces of %d: %v (-want +got):\n%s", text, n, err, cmp.Diff(want, got))
			}
		}
		got, _, err := readRequests(text+text, 11)
		if len(got) != 2 || got[0].End != len(text) || err != io.EOF { //nolint:errorlint // not wrapped
			t.Errorf("%.100q twice: got %v, %v, want two requests", text, got, err)
		}
		begin := strings.Index(text, strings.TrimLeft(text, "\r\n"))
		for cut := begin + 1; cut < len(text); cut += 1 + len(text)/500 {
			if got, _, err := readRequests(text[:cut], len(text)); len(got) > 0 || err != io.ErrUnexpectedEOF { //nolint:errorlint // not wrapped
				t.Fatalf("%.100q: got %v, %v, want an incomplete request", text[:cut], got, err)
			}
		}
	}
}

// The parser refuses a request with the same error for all sizes of the pieces in which its bytes arrive.
func TestMalformed(t *testing.T) {
	for _, c := range malformed {
		for _, text := range c.texts {
			for _, n := range []int{1, 2, 3, 7, 100, len(text)} {
				if got, _, err := readRequests(text, n); len(got) > 0 || !errors.Is(err, c.err) {
					t.Errorf("%.200q in pieces of %d: got %v, %v, want %v", text, n, got, err, c.err)
				}
			}
		}
	}
}

// A control character is refused when it arrives. The sender cannot keep the gate waiting for the rest of the
// line.
func TestControlCharacterRefusedAtOnce(t *testing.T) {
	for _, text := range []string{
		"!\x16\x03\x01", "GET /!\x00", "GET / !\x00 HTTP/1.1", "GET / HTTP/1.1\r!X", "G\r!E", "\r!G", "GET / HTTP/1.1!\n",
		get + "X!\x01: y", get + "X: a!\x00", get + "X: a!\x7f", get + "X: a\r!b", get + "X: \t!\vchunked", get + "\r!X", get + "X: a!\n",
		chunks + "5!\x00", chunks + "5\r!h", chunks + "5!\nh", chunks + "5;a!\x00", chunks + "5;a=\"b!\x00", chunks + "5;a\r!b", chunks + "5\r\nhello!w", chunks + "5\r\nhello\r!\r",
		chunks + "0\r\nX: a!\x00", chunks + "0\r\nX!\x01", chunks + "0\r\nX: a\r!b", chunks + "0\r\n\r!G",
	} {
		before, after, _ := strings.Cut(text, "!")
		if got, seen, err := readRequests(before+after+strings.Repeat("x", 100), 1); len(got) > 0 || err == nil || seen != len(before)+1 {
			t.Errorf("%q: got %v, %v after %d bytes, want an error after %d", before+after, got, err, seen, len(before)+1)
		}
	}
}

// An absolute-form target replaces the Host field.
func TestRequestHost(t *testing.T) {
	for text, want := range map[string]string{
		get + "\r\n": "a",
		"GET https://b:8443/c HTTP/1.1\r\nHost: a\r\n\r\n":     "b:8443",
		"GET https://b?c=https://d HTTP/1.1\r\nHost:\r\n\r\n":  "b",
		"GET http://[::1] HTTP/1.0\r\n\r\n":                    "[::1]",
		"CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n":            "b:443",
		"CONNECT * HTTP/1.1\r\nHost: a\r\n\r\n":                "*",
		"CONNECT /b HTTP/1.1\r\nHost: a\r\n\r\n":               "a",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n":                "a",
		"GET /https://b/ HTTP/1.1\r\nHost: a.test:1\r\n\r\n":   "a.test:1",
		"GET / HTTP/1.1\r\nX: y\r\nhost:\t [::1]:443 \r\n\r\n": "[::1]:443",
		"GET / HTTP/1.0\r\n\r\n":                               "",
	} {
		if r, _, err := new(Parser).ParseRequest([]byte(text), nil); r.Host != want || err != nil {
			t.Errorf("%q: got the host %q, %v, want %q", text, r.Host, err, want)
		}
	}
}

func TestParseRequestAllocates(t *testing.T) {
	var p Parser
	var fields []Field
	if n := testing.AllocsPerRun(100, func() {
		p.Reset()
		r, _, err := p.ParseRequest(typical, fields)
		if err != nil {
			t.Error(err)
		}
		fields = r.Fields
	}); n > 1 {
		t.Errorf("ParseRequest allocates %v times, want 1: the text of the head", n)
	}
}

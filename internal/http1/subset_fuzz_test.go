package http1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/ascii"
	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// The fuzz targets check that this package accepts a subset of net/http: net/http accepts every message
// that this package accepts, and reads the same message with the same end. Every difference that is
// intended is in this file:
//
//   - Empty lines before a request: RFC 9112 section 2.2 asks servers to skip one. net/http's server does
//     so only after a POST. The tests cut them off.
//   - Targets: this package checks their bytes and finds their host. Its callers parse them with
//     url.ParseRequestURI, as http.ReadRequest does itself (see isURI).
//   - Expect: net/http's server answers 417 to what it does not know. Here that is up to the caller (see
//     isExpected).
//   - Connection: net/http's server closes for the word close wherever it stands, also in "a close". This
//     package looks for it in a list of tokens (see saysClose).
//   - Trailers: net/http's server bounds them by its buffer of 4 KiB, this package by 16 KiB (see
//     smallTrailer).
//   - Pragma: net/http adds Cache-Control: no-cache to a message with Pragma: no-cache (see headerOf).

// isURI reports whether http.ReadRequest accepts the target.
func isURI(r *received) bool {
	target := r.Target
	if r.Method == http.MethodConnect && target[0] != '/' {
		target = "http://" + target
	}
	_, err := url.ParseRequestURI(target)
	return err == nil
}

// isExpected reports whether net/http's server knows what r expects. It looks for 100-continue as one of several
// words.
func isExpected(r *received) bool {
	for value := range Values(r.Fields, "Expect") {
		return value == "" || ascii.EqualFold(value, "100-continue")
	}
	return true
}

func saysClose(r *received) bool {
	for value := range Values(r.Fields, "Connection") {
		if strings.Contains(strings.ToLower(value), "close") {
			return true
		}
	}
	return false
}

func smallTrailer(r *received) bool {
	size := 0
	for _, f := range r.Trailer {
		size += len(f.Name) + len(f.Value)
	}
	return len(r.Trailer) == 0 || r.End-r.Begin < 3000 || size < 2000 && len(r.Trailer) < 100
}

// headerOf returns fields as net/http has them. It removes the fields that net/http turns into other
// fields of its request or response.
func headerOf(fields []Field, chunked bool) http.Header {
	h := http.Header{}
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		h[name] = append(h[name], f.Value)
	}
	delete(h, "Transfer-Encoding")
	if chunked {
		delete(h, "Trailer")
	}
	if pragma := h["Pragma"]; len(pragma) > 0 && pragma[0] == "no-cache" && h["Cache-Control"] == nil {
		h["Cache-Control"] = []string{"no-cache"}
	}
	return h
}

// A reading is a message as a parser has read it.
type reading struct {
	Start   string
	Host    string
	Header  http.Header
	Body    string
	Trailer http.Header
	End     int
}

func readingOf(r *received) reading {
	h := headerOf(r.Fields, r.Length == Chunked)
	delete(h, "Host")
	return reading{r.Method + " " + r.Target + " HTTP/1." + string(rune('0'+r.Minor)), r.Host, h, r.Body, headerOf(r.Trailer, false), r.End - r.Begin}
}

// readRest returns the body and the trailer, without fields that were only announced.
func readRest(body io.Reader, trailer *http.Header) (string, http.Header, error) {
	content, err := io.ReadAll(body)
	fields := http.Header{}
	for name, values := range *trailer {
		if values != nil {
			fields[name] = values
		}
	}
	if fields["Pragma"] != nil { // see headerOf
		fields = headerOf(fieldsOf(fields), false)
	}
	return string(content), fields, err
}

func fieldsOf(h http.Header) (fields []Field) {
	for name, values := range h {
		for _, value := range values {
			fields = append(fields, Field{name, value})
		}
	}
	return fields
}

// theirReading reads the first request in text with http.ReadRequest.
func theirReading(text string) (reading, error) {
	from := strings.NewReader(text)
	in := bufio.NewReaderSize(from, 1<<17)
	r, err := http.ReadRequest(in)
	if err != nil {
		return reading{}, err
	}
	body, trailer, err := readRest(r.Body, &r.Trailer)
	return reading{r.Method + " " + r.RequestURI + " " + r.Proto, r.Host, r.Header, body, trailer, len(text) - from.Len() - in.Buffered()}, err
}

// checkRequests reads the requests in text, in pieces of n bytes and in one piece, and compares each that is accepted with
// net/http.
func checkRequests(t *testing.T, text string, n int) {
	requests, _, err := readRequests(text, n)
	again, _, errAgain := readRequests(text, len(text)+1)
	if diff := cmp.Diff(again, requests); diff != "" || !errors.Is(err, errAgain) {
		t.Fatalf("%q: %v in pieces of %d, %v in one piece (-one +pieces):\n%s", text, err, n, errAgain, diff)
	}
	var kept strings.Builder // requests that net/http's server reads from one connection
	var want []reading
	persistent := true
	for i := range requests {
		r := &requests[i]
		if !isURI(r) {
			persistent = false
			continue
		}
		ours := readingOf(r)
		theirs, err := theirReading(text[r.Begin:])
		if diff := cmp.Diff(theirs, ours); diff != "" || err != nil {
			t.Fatalf("%q at %d: net/http says %v (-net/http +http1):\n%s", text, r.Begin, err, diff)
		}
		if persistent = persistent && isExpected(r) && smallTrailer(r); persistent {
			kept.WriteString(text[r.Begin:r.End])
			ours.End = 0 // the next request would differ
			want = append(want, ours)
			persistent = Persistent(r.Minor, r.Fields) && !saysClose(r)
		}
	}
	if got := serve(t, kept.String()); !cmp.Equal(got, want) {
		t.Fatalf("%q: net/http's server reads otherwise (-server +http1):\n%s", kept.String(), cmp.Diff(got, want))
	}
}

func requestSeeds(f *testing.F) {
	add := func(text string) {
		f.Add(text, uint8(0))
		f.Add(text, uint8(250))
	}
	for _, text := range valid {
		add(text)
	}
	for _, c := range malformed {
		for _, text := range c.texts {
			if len(text) < 1000 {
				add(text)
			}
		}
	}
	for _, r := range smuggling.Requests("/a", "b", "") {
		add(r.Bytes + smuggling.Next("/a", "b", ""))
	}
}

// http.ReadRequest and net/http's server accept every request that the parser accepts, and read it in the same
// way. The sizes of the pieces in which the bytes arrive do not matter.
func FuzzRequests(f *testing.F) {
	requestSeeds(f)
	f.Fuzz(func(t *testing.T, text string, pieces uint8) { checkRequests(t, text, 1+int(pieces)) })
}

// FuzzChunks is FuzzRequests for what follows a header that announces a chunked body.
func FuzzChunks(f *testing.F) {
	for _, text := range valid {
		if body, found := strings.CutPrefix(text, chunks); found {
			f.Add(body+"GET / HTTP/1.0\r\n\r\n", uint8(3))
		}
	}
	for _, r := range smuggling.Requests("/a", "b", "") {
		if _, body, found := strings.Cut(r.Bytes, "\r\nTransfer-Encoding: chunked\r\n\r\n"); found {
			f.Add(body+smuggling.Next("/a", "b", ""), uint8(3))
		}
	}
	f.Fuzz(func(t *testing.T, text string, pieces uint8) {
		checkRequests(t, chunks+text, 1+int(pieces))
		if ChunksArrived([]byte(text)) {
			checkArrived(t, text)
		}
	})
}

// checkArrived checks that reading the body at the start of text neither waits for more bytes nor yields a trailer.
func checkArrived(t *testing.T, text string) {
	var body Body
	body.Reset(bufio.NewReader(strings.NewReader(text)), Chunked)
	if _, err := io.Copy(io.Discard, &body); errors.Is(err, io.ErrUnexpectedEOF) || body.Trailer() != nil {
		t.Errorf("%q counts as arrived, but reading it ends with %v and the trailer %v", text, err, body.Trailer())
	}
}

// http.ReadResponse accepts every response that the parser accepts, and reads it in the same way.
func FuzzResponse(f *testing.F) {
	for _, c := range validResponses {
		f.Add(c.text, false, uint8(0))
		f.Add(c.text, true, uint8(250))
	}
	for _, c := range malformedResponses {
		for _, text := range c.texts {
			f.Add(text, false, uint8(0))
		}
	}
	f.Fuzz(func(t *testing.T, text string, head bool, pieces uint8) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		r, body, trailer, end, err := readResponse(text, method, 1+int(pieces))
		r2, body2, trailer2, end2, err2 := readResponse(text, method, len(text)+1)
		if !cmp.Equal(r, r2) || body != body2 || !cmp.Equal(trailer, trailer2) || end != end2 || !errors.Is(err, err2) {
			t.Fatalf("%q to %s: %v, %q, %v, %d, %v in pieces of %d; %v, %q, %v, %d, %v in one piece", text, method, r, body, trailer, end, err, 1+int(pieces), r2, body2, trailer2, end2, err2)
		}
		if err != nil {
			return
		}
		from := strings.NewReader(text)
		in := bufio.NewReaderSize(from, 1<<17)
		answer, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%q to %s: net/http says %v", text, method, err)
		}
		defer func() { _ = answer.Body.Close() }()
		theirBody, theirTrailer, err := readRest(answer.Body, &answer.Trailer)
		theirs := reading{answer.Proto + " " + answer.Status[:3], "", answer.Header, theirBody, theirTrailer, len(text) - from.Len() - in.Buffered()}
		ours := reading{"HTTP/1." + string(rune('0'+r.Minor)) + " " + text[len("HTTP/1.1 "):][:3], "", headerOf(r.Fields, r.Length == Chunked), body, headerOf(trailer, false), end}
		if diff := cmp.Diff(theirs, ours); diff != "" || err != nil || answer.StatusCode != r.Status {
			t.Fatalf("%q to %s: net/http says %d, %v, http1 %d (-net/http +http1):\n%s", text, method, answer.StatusCode, err, r.Status, diff)
		}
	})
}

package http1

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestBody(t *testing.T) {
	for _, c := range []struct {
		name, text string
		length     int64
		content    string
		trailer    []Field
		err        error
	}{
		{"counted", "helloGET", 5, "hello", nil, nil},
		{"empty", "GET", 0, "", nil, nil},
		{"short", "hel", 5, "hel", nil, io.ErrUnexpectedEOF},
		{"nothing", "", 5, "", nil, io.ErrUnexpectedEOF},
		{"until close", "hello", UntilClose, "hello", nil, nil},
		{"chunked", "5\r\nhello\r\n1;a=\"b;\";c\r\n!\r\n0\r\nX: y\r\n\r\nGET", Chunked, "hello!", []Field{{"X", "y"}}, nil},
		{"cut off after a chunk", "5\r\nhello\r\n", Chunked, "hello", nil, io.ErrUnexpectedEOF},
		{"cut off in a chunk", "5\r\nhel", Chunked, "hel", nil, io.ErrUnexpectedEOF},
		{"cut off before a chunk's end", "5\r\nhello", Chunked, "hello", nil, io.ErrUnexpectedEOF},
		{"cut off in a size", "5", Chunked, "", nil, io.ErrUnexpectedEOF},
		{"cut off in the trailer", "0\r\nX: y\r\n", Chunked, "", nil, io.ErrUnexpectedEOF},
		{"cut off before the last LF", "0\r\n\r", Chunked, "", nil, io.ErrUnexpectedEOF},
		{"malformed", "5\r\nhello\r\nx\r\n", Chunked, "hello", nil, ErrChunkSize},
		{"a malformed trailer", "5\r\nhello\r\n0\r\nX: y\r\nHost: z\r\n\r\n", Chunked, "hello", nil, ErrTrailer},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{16, 4096} {
				in := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(c.text)), size)
				var b Body
				b.Reset(in, c.length)
				content, err := io.ReadAll(&b)
				if string(content) != c.content || !errors.Is(err, c.err) || b.Done() != (c.err == nil) {
					t.Errorf("got %q, %v, done %t, want %q, %v", content, err, b.Done(), c.content, c.err)
				}
				if diff := cmp.Diff(c.trailer, b.Trailer()); diff != "" {
					t.Errorf("trailer (-want +got):\n%s", diff)
				}
				want := c.err
				if want == nil {
					want = io.EOF
				}
				if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
					t.Errorf("a later Read: got %d, %v, want %v", n, err, want)
				}
				if rest, _ := io.ReadAll(in); c.err == nil && strings.HasSuffix(c.text, "GET") != (string(rest) == "GET") {
					t.Errorf("bytes after the body: got %q", rest)
				}
			}
		})
	}
}

// chunkSize does not rely on the reader of its line, which ends a line at a control character.
func TestChunkSize(t *testing.T) {
	for line, want := range map[string]error{
		"5": nil, "7fffffffffffffff": nil, "0;a": nil, "5;a=\"\\\"\t\xff\"": nil, "5;a=\"b\";c": nil,
		"": ErrChunkSize, ";a": ErrChunkSize, "\x00": ErrChunkSize, "5\x00": ErrChunkSize, "5 ": ErrChunkSize, "8000000000000000": ErrChunkSize,
		"5;a=\"\x00\"": ErrChunkExtension, "5;a=\"\r\"": ErrChunkExtension, "5;a=\"\\\n\"": ErrChunkExtension, "5;a=\"\x7f\"": ErrChunkExtension, "5;a\x00": ErrChunkExtension,
		"5;a=\"b\\\"": ErrChunkExtension, "5;a=\"": ErrChunkExtension, "5;a=\"b\" ": ErrChunkExtension, "5;\"a\"": ErrChunkExtension,
	} {
		if size, err := chunkSize([]byte(line)); !errors.Is(err, want) {
			t.Errorf("chunkSize(%q) = %d, %v, want %v", line, size, err, want)
		}
	}
}

// The end of a connection that an error reports is not the end of the body.
func TestBodyError(t *testing.T) {
	broken := errors.New("broken")
	for _, length := range []int64{5, Chunked, UntilClose} {
		for _, cause := range []error{broken, io.ErrUnexpectedEOF, errors.Join(io.EOF, broken)} {
			var b Body
			b.Reset(bufio.NewReader(io.MultiReader(strings.NewReader("5\r\n"), iotest.ErrReader(cause))), length)
			if _, err := io.ReadAll(&b); err != cause || b.Done() { //nolint:errorlint // not wrapped
				t.Errorf("length %d: got %v, done %t, want %v", length, err, b.Done(), cause)
			}
		}
	}
}

// Small chunks with extensions are accepted as long as the extensions are in proportion to the content. The
// bound does not grow with the body.
func TestChunkOverhead(t *testing.T) {
	for _, c := range []struct {
		chunk string
		count int
		err   error
	}{
		{"1\r\nx\r\n", 100_000, nil},
		{"1;seq=1234567\r\nx\r\n", 100_000, nil},
		{"1;" + strings.Repeat("e", 15) + "\r\nx\r\n", 10_000, nil},
		{"1;" + strings.Repeat("e", 15) + "\r\nx\r\n", 17_000, ErrChunkOverhead},
		{"400;chunk-signature=" + strings.Repeat("0123", 16) + "\r\n" + strings.Repeat("x", 1024) + "\r\n", 1000, nil},
		{"1;" + strings.Repeat("e", 4000) + "\r\nx\r\n", 4, nil},
		{"1;" + strings.Repeat("e", 4000) + "\r\nx\r\n", 5, ErrChunkOverhead},
	} {
		var b Body
		b.Reset(bufio.NewReader(strings.NewReader(strings.Repeat(c.chunk, c.count)+"0\r\n\r\n")), Chunked)
		if n, err := io.Copy(io.Discard, &b); !errors.Is(err, c.err) {
			t.Errorf("%d chunks %.40q: got %d bytes, %v, want %v", c.count, c.chunk, n, err, c.err)
		}
	}
}

func TestBodyAllocates(t *testing.T) {
	text := strings.Repeat("5\r\nhello\r\n", 20) + "0\r\n\r\n"
	from := strings.NewReader(text)
	in := bufio.NewReader(from)
	var b Body
	p := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		from.Reset(text)
		in.Reset(from)
		b.Reset(in, Chunked)
		for !b.Done() {
			if _, err := b.Read(p); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
	}); n > 0 {
		t.Errorf("reading a chunked body allocates %v times, want never", n)
	}
}

// A chunked body has arrived with its last byte.
func TestChunksArrived(t *testing.T) {
	const whole = "5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
	for n := range len(whole) {
		if ChunksArrived([]byte(whole[:n])) {
			t.Errorf("%d of %d bytes count as the whole body", n, len(whole))
		}
	}
	for text, want := range map[string]bool{
		whole: true, whole + "HTTP/1.1 200 OK": true, "0\r\n\r\n": true,
		"0\r\nX: y\r\n\r\n": false, "7fffffffffffffff\r\nx\r\n0\r\n\r\n": false, "ffffffffffffffff\r\nx": false, "x\r\n\r\n": false, "": false,
	} {
		if got := ChunksArrived([]byte(text)); got != want {
			t.Errorf("ChunksArrived(%q) = %t, want %t", text, got, want)
		}
	}
}

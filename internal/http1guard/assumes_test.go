package http1guard

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// net/http takes breakage for malformed wherever it replaces the rest of a chunked body, and not for
// the end of the connection. No byte of a chunk's content is malformed, so breakage never begins there. docs/stdlib-assumptions.md has the case.
func TestAssumesBreakageIsMalformed(t *testing.T) {
	const header = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, body := range []string{"", "5", "5\r", "5\r\nhello", "5\r\nhello\r", "5\r\nhello\r\n", "0", "0\r\n", "0\r\nX", "0\r\nX: y", "0\r\nX: y\r\n"} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(header + body + breakage)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r.Body); err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			t.Errorf("the body %q with breakage gives the error %v, want a syntax error", body, err)
		}
	}
}

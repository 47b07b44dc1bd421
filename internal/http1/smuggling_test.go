package http1

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// The requests of the public catalogues of request smuggling are read as RFC 9112 says, whether they arrive in one piece
// or byte by byte, first on a connection or after another request.
func TestSmuggling(t *testing.T) {
	const first = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, c := range smuggling.Requests("/accounts/7", "api.example.test", "X-Token: secret\r\n") {
		for _, before := range []string{"", first} {
			for _, n := range []int{1, 1 << 16} {
				requests, _, err := readRequests(before+c.Bytes+smuggling.Next("/accounts/7", "api.example.test", ""), n)
				var got []smuggling.Message
				for _, r := range requests {
					got = append(got, smuggling.Message{Method: r.Method, Target: r.Target, Body: r.Body})
				}
				var refused Error
				isRefused := errors.As(err, &refused)
				var want []smuggling.Message
				if before != "" {
					want = append(want, smuggling.Message{Method: "GET", Target: "/first"})
				}
				// The gate answers 400 to some forms of targets that other servers know. The grammar refuses most.
				if c.Status != 400 || !isRefused {
					want = append(want, c.Messages...)
				}
				if c.Fault == smuggling.Valid && !isRefused {
					want = append(want, smuggling.Message{Method: "GET", Target: "/accounts/7-next"})
				}
				wantRefused := c.Fault != smuggling.Valid || c.Status == 400 && isRefused
				if diff := cmp.Diff(want, got); diff != "" || isRefused != wantRefused || !isRefused && err != io.EOF { //nolint:errorlint // not wrapped
					t.Errorf("%s, pieces of %d, after %q: got %v, want the fault %d (-want +got):\n%s", c.Name, n, before, err, c.Fault, diff)
				}
			}
		}
	}
}

// The responses of the catalogues are read as RFC 9112 says, in one piece and byte by byte.
func TestSmugglingResponses(t *testing.T) {
	for _, c := range smuggling.Responses() {
		for _, n := range []int{1, 1 << 16} {
			if n == 1 && len(c.Bytes) > 1<<14 {
				continue
			}
			text := c.Bytes
			var r Response
			var body string
			var err error
			for r.Status < 200 && err == nil { // informational responses come first
				var end int
				r, body, _, end, err = readResponse(text, c.Method, n)
				text = text[end:]
			}
			switch {
			case c.Fault == smuggling.Valid && (err != nil || r.Status != c.Status || body != c.Body):
				t.Errorf("%s in pieces of %d: got %d, %q, %v, want %d, %q", c.Name, n, r.Status, body, err, c.Status, c.Body)
			case c.Fault == smuggling.InHead && (err == nil || r.Status >= 200) && !isUpToTheClient(c.Name):
				t.Errorf("%s in pieces of %d: got %d, %q, %v, want an error in the head", c.Name, n, r.Status, body, err)
			case c.Fault == smuggling.InBody && (err == nil || r.Status != 200):
				t.Errorf("%s in pieces of %d: got %d, %q, %v, want an error in the body", c.Name, n, r.Status, body, err)
			}
		}
	}
}

// isUpToTheClient reports whether the client, and not the grammar, has to refuse the response with this name: the
// client bounds heads, and knows the request.
func isUpToTheClient(name string) bool {
	return name == "a long status line" || name == "an unasked switch" || strings.HasSuffix(name, "above 64 KiB")
}

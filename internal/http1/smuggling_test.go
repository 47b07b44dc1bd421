package http1

import (
	"errors"
	"io"
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

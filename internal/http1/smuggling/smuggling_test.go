package smuggling_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/http1/smuggling"
)

// net/http reads every valid request of the catalogue. The names are unique.
func TestRequests(t *testing.T) {
	names, faults := map[string]bool{}, 0
	for _, r := range smuggling.Requests("/accounts/7", "api.example.test", "X-Token: secret\r\n") {
		if names[r.Name] {
			t.Errorf("two requests are named %s", r.Name)
		}
		names[r.Name] = true
		if r.Fault != smuggling.Valid {
			faults++
			continue
		}
		if r.Name == "a target without a slash" { // net/http refuses it with the request line
			continue
		}
		in := bufio.NewReader(strings.NewReader(strings.TrimPrefix(r.Bytes, "\r\n"))) // servers skip an empty line before a request
		var got []smuggling.Message
		for {
			request, err := http.ReadRequest(in)
			if err == io.EOF { //nolint:errorlint // the end between two requests, not inside one
				break
			}
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
				break
			}
			body, err := io.ReadAll(request.Body)
			if err != nil {
				t.Errorf("%s: the body: %v", r.Name, err)
			}
			got = append(got, smuggling.Message{Method: request.Method, Target: request.RequestURI, Body: string(body)})
		}
		if diff := cmp.Diff(r.Messages, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.Name, diff)
		}
	}
	t.Logf("%d requests, %d with a fault", len(names), faults)
}

package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/config"
)

// A response without Content-Type reaches the client without Content-Type, for any body and protocol.
// The gate's own answers have a type.
func TestContentTypeIsNotInvented(t *testing.T) {
	upstream := serveUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		if _, typed := r.URL.Query()["typed"]; typed {
			w.Header().Set("Content-Type", "text/x")
		}
		_, _ = io.WriteString(w, "<html><script>x</script>")
		if _, long := r.URL.Query()["long"]; long {
			_, _ = io.WriteString(w, strings.Repeat("x", 10<<10))
		}
	}), nil)
	for _, protocol := range []config.UpstreamProtocol{config.HTTP1, config.H2C} {
		s := newHarness(t, "http://"+upstream, io.Discard, func(cfg *config.Config) { cfg.APIs[0].Upstream.Protocol = protocol })
		general := s.listen(t)
		for path, client := range map[string]struct{ address, protocol string }{
			"HTTP/2":   {general, "h2"},
			"HTTP/1.1": {general, "http/1.1"},
		} {
			for _, tt := range []struct{ method, query, token, want string }{
				{http.MethodGet, "", s.token, ""},
				{http.MethodGet, "long", s.token, ""},
				{http.MethodPost, "", s.token, ""},
				{http.MethodGet, "typed", s.token, "text/x"},
				{http.MethodGet, "", "x", "application/json"},
			} {
				answer, err := do(t, s, client.address, tt.token, client.protocol, tt.method, nil, func(r *http.Request) { r.URL.RawQuery = tt.query })
				if err != nil {
					t.Fatalf("%s, %s, %+v: %v", path, protocol, tt, err)
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				if got := answer.Header["Content-Type"]; strings.Join(got, ",") != tt.want || tt.want == "" && got != nil {
					t.Errorf("%s, upstream over %s, %s ?%s: Content-Type %q, want %q", path, protocol, tt.method, tt.query, got, tt.want)
				}
			}
		}
	}
}

package httpserver

import (
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/http1"
)

// A roundTrip sends a request on an open connection and reads its response.
func roundTrip(t testing.TB, asked string) func() {
	body := make([]byte, 1<<10)
	fields := []http1.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Date", Value: "Wed, 25 Nov 2026 12:00:00 GMT"}}
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		var scrap [64]byte
		for r.ContentLength > 0 {
			if _, err := r.Body.Read(scrap[:]); err != nil {
				break
			}
		}
		w.(http1.ResponseWriter).WriteFields(200, fields, int64(len(body)))
		_, _ = w.Write(body)
	})
	c := s.dial(t)
	const head = len("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Wed, 25 Nov 2026 12:00:00 GMT\r\nContent-Length: 1024\r\n\r\n")
	answer := make([]byte, head+len(body))
	request := []byte(asked)
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	plainGet  = "GET /accounts/7 HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer x\r\nAccept: */*\r\nUser-Agent: x\r\n\r\n"
	plainPost = "POST /accounts/7 HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer x\r\nContent-Length: 4\r\n\r\nbody"
)

// The server takes 4 allocations for a request, with or without a body: the exchange, the text of the header, and the
// header map with its table. TLS of server and client takes 3. The race detector makes sync.Pool forget one in four.
func TestAllocations(t *testing.T) {
	for name, tt := range map[string]struct {
		request string
		budget  float64
	}{"GET": {plainGet, 7}, "POST": {plainPost, 7}} {
		if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			tt.budget += 5
		}
		if n := testing.AllocsPerRun(1000, roundTrip(t, tt.request)); n > tt.budget {
			t.Errorf("a %s takes %v allocations, want at most %v", name, n, tt.budget)
		}
	}
}

func BenchmarkRequests(b *testing.B) {
	for name, request := range map[string]string{"GET": plainGet, "POST": plainPost, "long": strings.Replace(plainGet, "x\r\n", strings.Repeat("x", 800)+"\r\n", 1)} {
		b.Run(name, func(b *testing.B) {
			once := roundTrip(b, request)
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}

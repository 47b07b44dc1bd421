package upstream

import (
	"bufio"
	"context"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/http1"
)

// quick answers each request without a body with 1 KiB, and checks nothing.
func quick(_ *server, conn net.Conn, in *bufio.Reader) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Wed, 25 Nov 2026 12:00:00 GMT\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	for {
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// BenchmarkRoundTrip is a small request and its response. Its server is in the same process and part of
// cpu-ns/op, which is the time of the processor.
func BenchmarkRoundTrip(b *testing.B) {
	once := repeated(b, clientOf(b, listen(b, nil, quick), nil, 30*time.Second).Client)
	b.ReportAllocs()
	before := processor()
	for b.Loop() {
		once()
	}
	b.ReportMetric(float64((processor()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// The allocations of a round trip are the request with the room for its response, and the text of the head. The
// race detector makes sync.Pool forget one in four, on purpose.
func TestRoundTripAllocations(t *testing.T) {
	budget := 2.0
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		budget += 5
	}
	c := clientOf(t, listen(t, nil, quick), nil, 30*time.Second)
	if n := testing.AllocsPerRun(1000, repeated(t, c.Client)); n > budget {
		t.Errorf("got %v allocations per round trip, want at most %v", n, budget)
	}
}

// repeated returns what sends one request after the other, as proxy does.
func repeated(t testing.TB, c *Client) func() {
	ctx, cancel := context.WithCancel(t.Context()) // as a server's
	t.Cleanup(cancel)
	fields := []http1.Field{
		{Name: "Accept", Value: "application/json"}, {Name: "Tallygate-Partner", Value: "northwind"}, {Name: "X-Request-Id", Value: "0123456789abcdef"},
	}
	buffer := make([]byte, 32<<10)
	once := func() {
		response, err := c.RoundTrip(ctx, &Request{Method: "GET", Target: "/accounts/7?a=b", Host: "api.example.test", Fields: fields})
		for err == nil {
			_, err = response.Body.Read(buffer)
		}
		if !isEnd(err) {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	once()
	return once
}

// processor is the time that the process has had of the processors.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

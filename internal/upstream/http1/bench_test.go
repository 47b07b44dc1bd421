package http1

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// quick answers each bodyless request with 1 KiB and takes no care: it is the same for both.
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

// BenchmarkRoundTrip is a small request and its answer, through both. Its server is in the
// same process and part of cpu-ns/op, which is the time of the processor.
func BenchmarkRoundTrip(b *testing.B) {
	s := listen(b, nil, quick)
	direct, general := transports(b, s, nil, 30*time.Second)
	for name, transport := range map[string]http.RoundTripper{"ours": direct, "http.Transport": general} {
		b.Run(name, func(b *testing.B) {
			once := repeated(b, transport)
			b.ReportAllocs()
			before := processor()
			for b.Loop() {
				once()
			}
			b.ReportMetric(float64((processor()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// The budget of a round trip: at most 16 allocations, most of them net/http's for the header
// of the answer. The race detector makes sync.Pool forget one in four, on purpose.
func TestRoundTripAllocations(t *testing.T) {
	budget := 16.0
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		budget += 5
	}
	direct, _ := transports(t, listen(t, nil, quick), nil, 30*time.Second)
	if n := testing.AllocsPerRun(1000, repeated(t, direct)); n > budget {
		t.Errorf("a round trip takes %v allocations, the budget is %v", n, budget)
	}
}

// repeated returns what sends one request after the other, as proxy does.
func repeated(t testing.TB, transport http.RoundTripper) func() {
	ctx, cancel := context.WithCancel(t.Context()) // as a server's
	t.Cleanup(cancel)
	r := request(t, "GET", "").WithContext(ctx)
	r.Header["Tallygate-Partner"], r.Header["X-Request-Id"] = []string{"northwind"}, []string{"0123456789abcdef"}
	buffer := make([]byte, 32<<10)
	once := func() {
		answer, err := transport.RoundTrip(r)
		for err == nil {
			_, err = answer.Body.Read(buffer)
		}
		if !isEnd(err) {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
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

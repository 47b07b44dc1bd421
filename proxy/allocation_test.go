package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/tallygate/tallygate/config"
)

// mostAllocations bounds the objects that server, handler and client for upstreams allocate together for a granted
// request: the request with its response, its header map (2 objects) and the text of its head; the exchange with
// the upstream's request and response, the request id and the text of the response's head; and one in crypto/tls for
// each record that is read.
const mostAllocations = 8

// The client of the test reads one record. Beside this, client and upstream allocate nothing.
const clientAllocations = 1

// TestAllocationsOfAGrantedRequest counts the allocations of a request on kept connections, over real sockets and
// TLS. The header has at most eight fields beside Host; the map of a larger header takes more objects.
func TestAllocationsOfAGrantedRequest(t *testing.T) {
	if raceEnabled() {
		t.Skip("under the race detector sync.Pool drops items on purpose")
	}
	answers := map[string]string{
		"chunks":  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + string(bytes.Repeat([]byte("x"), 1024)) + "\r\n0\r\n\r\n",
		"no body": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Api: yes\r\nContent-Length: 0\r\n\r\n",
		"small":   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Api: yes\r\nContent-Length: 1024\r\n\r\n" + string(bytes.Repeat([]byte("x"), 1024)),
	}
	body := string(bytes.Repeat([]byte("x"), 1024))
	for answer, text := range answers {
		for method, rest := range map[string]string{
			"GET":  "\r\n",
			"POST": "Content-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + body,
		} {
			t.Run(method+", answer: "+answer, func(t *testing.T) {
				s := newHarness(t, "http://"+cannedUpstream(t, text), io.Discard, func(cfg *config.Config) { cfg.Log = config.Default().Log })
				client := dialGate(t, s, s.listen(t))
				request := []byte(method + " /accounts/7?a=b HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer " + s.token +
					"\r\nAccept: application/json\r\nUser-Agent: ledger/1.0\r\nAccept-Encoding: gzip\r\n" + rest)
				buffer := make([]byte, 8<<10)
				serve := func() {
					if _, err := client.Write(request); err != nil {
						t.Fatal(err)
					}
					readMessage(t, client, buffer)
				}
				for range 100 {
					serve()
				}
				n := mallocs(2000, serve) - clientAllocations
				t.Logf("%.2f allocations", n)
				if n > mostAllocations+0.5 { // the runtime and other goroutines allocate a little
					t.Errorf("a granted request takes %.2f allocations, want at most %d", n, mostAllocations)
				}
			})
		}
	}
}

// BenchmarkGranted serves granted requests over real sockets and TLS, with client and upstream in the same process.
func BenchmarkGranted(b *testing.B) {
	body := string(bytes.Repeat([]byte("x"), 1024))
	answer := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Api: yes\r\nContent-Length: 1024\r\n\r\n" + body
	s := newHarness(b, "http://"+cannedUpstream(b, answer), io.Discard, func(cfg *config.Config) { cfg.Log = config.Default().Log })
	const head = " /accounts/7?a=b HTTP/1.1\r\nHost: api.example.test\r\nAccept: application/json\r\nUser-Agent: ledger/1.0\r\nAuthorization: Bearer "
	get := []byte("GET" + head + s.token + "\r\n\r\n")
	post := []byte("POST" + head + s.token + "\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + body)
	address := s.listen(b)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		client, buffer := dialGate(b, s, address), make([]byte, 8<<10)
		for i := 0; p.Next(); i++ {
			request := get
			if i%4 == 0 {
				request = post
			}
			if _, err := client.Write(request); err != nil {
				b.Error(err)
				return
			}
			readMessage(b, client, buffer)
		}
	})
}

// mallocs returns the mean number of allocations in the process during a call of f.
func mallocs(runs int, f func()) float64 {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(runs)
}

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// dialGate returns a connection to s, which listens at address.
func dialGate(t testing.TB, s *harness, address string) net.Conn {
	t.Helper()
	settings := s.clientConfig("http/1.1")
	settings.ServerName = "api.example.test"
	client, err := tls.Dial("tcp", address, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// cannedUpstream answers each request with text, and returns its address.
func cannedUpstream(t testing.TB, text string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				buffer, answer := make([]byte, 8<<10), []byte(text)
				for readMessage(nil, conn, buffer) {
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

var (
	endOfHead   = []byte("\r\n\r\n")
	sized       = []byte("Content-Length: 1024\r\n")
	inChunks    = []byte("Transfer-Encoding: chunked\r\n")
	endOfChunks = []byte("\r\n0\r\n\r\n")
)

// readMessage reads a message of this test and returns false if the connection ends. t is nil for the upstream.
func readMessage(t testing.TB, conn net.Conn, buffer []byte) bool {
	n := 0
	for {
		got, err := conn.Read(buffer[n:])
		if err != nil {
			if t != nil {
				t.Fatal(err)
			}
			return false
		}
		n += got
		head, rest, found := bytes.Cut(buffer[:n], endOfHead)
		switch {
		case !found, bytes.Contains(buffer[:len(head)+2], sized) && len(rest) < 1024:
		case bytes.Contains(buffer[:len(head)+2], inChunks) && !bytes.HasSuffix(rest, endOfChunks):
		default:
			return true
		}
	}
}

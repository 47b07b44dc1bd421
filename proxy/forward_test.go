package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// answering starts an upstream that reads one request without a body on each connection, sends answer and
// closes the connection. It returns its URL and the heads of the requests.
func answering(t *testing.T, answer string) (url string, heads chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heads = make(chan string, 100)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				var head strings.Builder
				for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != ""; {
					head.WriteString(lines.Text() + "\n")
				}
				heads <- head.String()
				_, _ = io.WriteString(conn, answer)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return "http://" + l.Addr().String(), heads
}

// send sends text, a whole request, over a connection of its own and returns all received bytes.
func send(t *testing.T, s *harness, address, text string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address, s.clientConfig("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	received, _ := io.ReadAll(conn)
	return string(received)
}

// Over HTTP/1.1 fields keep their order and spelling in both directions. The fields that the gate removes leave
// no trace, and its own come last.
func TestFieldsInOrder(t *testing.T) {
	url, heads := answering(t, "HTTP/1.1 200 OK\r\nx-lower: 1\r\nX-UPPER: 2\r\nconnection: close, X-Hop\r\nX-Hop: 1\r\ntallygate_partner: leaked\r\n"+
		"Set-Cookie: a=1\r\nx-lower: 3\r\nset-cookie: b=2\r\nServer: \r\nContent-Length: 5\r\n\r\nwhole")
	s := newHarness(t, url, io.Discard)
	got := send(t, s, s.listen(t), "GET /accounts/7?a=b HTTP/1.1\r\nx-lower: 1\r\nhost: api.example.test\r\nX-UPPER:2\r\nauthorization: Bearer "+s.token+"\r\n"+
		"Connection: close, x-hop\r\nX-Hop: 1\r\nx-forwarded-for: 10.0.0.1\r\nCookie: a=1\r\nx-lower: 3\r\ncookie: b=2\r\nX-Empty:\r\nTE: trailers\r\nexpect: 100-continue\r\n\r\n")
	head := receive(t, heads)
	const fields = "x-lower: 1\nX-UPPER: 2\nCookie: a=1\nx-lower: 3\ncookie: b=2\nX-Empty: \nTallygate-Partner: northwind\n"
	if !strings.Contains(head, fields) || strings.Count(strings.ToLower(head), "authorization") > 0 || strings.Contains(strings.ToLower(head), "x-hop") ||
		!strings.HasPrefix(head, "GET /accounts/7?a=b HTTP/1.1\n") || strings.Contains(head, "10.0.0.1") || strings.Contains(head, "User-Agent") {
		t.Errorf("the upstream got\n%s\nwant fields\n%s", head, fields)
	}
	const want = "HTTP/1.1 200 OK\r\nx-lower: 1\r\nX-UPPER: 2\r\nSet-Cookie: a=1\r\nx-lower: 3\r\nset-cookie: b=2\r\nServer: \r\nX-Request-Id: "
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\r\n\r\nwhole") || strings.Contains(got, "leaked") || strings.Contains(strings.ToLower(got), "x-hop") {
		t.Errorf("the client got %q, want the start %q", got, want)
	}
}

// T-HDR-01, 02, 05: for all names in Connection, and for all copies of fields that a client sends, the
// upstream gets each of the gate's fields exactly once and with the gate's value.
func TestOwnFieldsAreSetLast(t *testing.T) {
	url, heads := answering(t, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	s := newHarness(t, url, io.Discard)
	address := s.listen(t)
	own := map[string]string{
		"tallygate-partner": "northwind", "tallygate-client-id": "northwind-ledger", "tallygate-scopes": "accounts:read",
		"x-request-id": "", "x-forwarded-for": "127.0.0.1", "x-forwarded-host": "api.example.test", "x-forwarded-proto": "https",
	}
	var names, forged []string
	for name := range own {
		names = append(names, name)
		for i := range 50 {
			spelled := []byte(name)
			for j, c := range spelled {
				switch {
				case c == '-':
					spelled[j] = "-_.~!-"[(i+j)%6]
				case i>>(j%5)&1 == 1:
					spelled[j] = c - 'a' + 'A'
				}
			}
			forged = append(forged, string(spelled)+": mallory")
		}
	}
	slices.Sort(names)
	for name, fields := range map[string]string{
		"nothing":            "",
		"all names":          "Connection: close, " + strings.Join(names, ", ") + "\r\n",
		"upper case":         "CONNECTION: " + strings.ToUpper(strings.Join(names, ",")) + "\r\n",
		"a line for each":    "Connection: " + strings.Join(names, "\r\nConnection: ") + "\r\n",
		"tabs":               "Connection:\t" + strings.Join(names, "\t,\t") + "\t\r\n",
		"empty list members": "Connection: ,, " + strings.Join(names, ",,") + " ,\r\n",
		"copies":             strings.Join(forged, "\r\n") + "\r\n",
		"both":               "connection: " + strings.Join(names, ", ") + "\r\n" + strings.Join(forged, "\r\n") + "\r\nConnection: Host, Content-Length, Te, Connection\r\n",
	} {
		got := send(t, s, address, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+s.token+"\r\n"+fields+"Connection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 204 ") {
			t.Errorf("%s: got %q, want 204", name, got)
			continue
		}
		head := receive(t, heads)
		values := map[string][]string{}
		for line := range strings.Lines(head) {
			if field, value, is := strings.Cut(strings.TrimSpace(line), ":"); is {
				values[fold(field)] = append(values[fold(field)], strings.TrimSpace(value))
			}
		}
		for field, value := range own {
			if v := values[field]; len(v) != 1 || value != "" && v[0] != value || v[0] == "mallory" {
				t.Errorf("%s: the upstream got %s = %q, want %q alone", name, field, v, value)
			}
		}
		if len(values["host"]) != 1 || values["connection"] != nil || strings.Contains(head, "mallory") {
			t.Errorf("%s: the upstream got\n%s", name, head)
		}
	}
}

// Trailers reach the client, without those that resemble the gate's fields. Over HTTP/1.1 a response with a
// Content-Length has no trailer.
func TestTrailers(t *testing.T) {
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "counted" {
			w.Header().Set("Content-Length", "5")
		}
		_, _ = io.WriteString(w, "whole")
		_ = http.NewResponseController(w).Flush()
		for _, name := range []string{"X-Sum", "Tallygate_Partner", "X-Request-Id"} {
			w.Header().Set(http.TrailerPrefix+name, "1")
		}
	})
	url := "http://" + serveUpstream(t, api, nil)
	for _, tt := range []struct {
		up       config.UpstreamProtocol
		protocol string
		query    string
		want     string
	}{
		{config.HTTP1, "http/1.1", "", "1"},
		{config.HTTP1, "h2", "", "1"},
		{config.H2C, "http/1.1", "", "1"},
		{config.H2C, "h2", "", "1"},
		{config.H2C, "http/1.1", "counted", ""},
		{config.H2C, "h2", "counted", "1"},
	} {
		s := newHarness(t, url, io.Discard, func(cfg *config.Config) { cfg.APIs[0].Upstream.Protocol = tt.up })
		answer, err := do(t, s, s.listen(t), s.token, tt.protocol, http.MethodGet, nil, func(r *http.Request) { r.URL.RawQuery = tt.query })
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || string(text) != "whole" || answer.Trailer.Get("X-Sum") != tt.want || answer.Trailer.Get("Tallygate_Partner") != "" || answer.Trailer.Get("X-Request-Id") != "" {
			t.Errorf("%s to %s %s: got %q with trailer %v, %v, want X-Sum %q alone", tt.up, tt.protocol, tt.query, text, answer.Trailer, err, tt.want)
		}
	}
}

// A response that breaks off at the upstream never ends as a whole response, over any protocols.
func TestTruncatedResponses(t *testing.T) {
	broken := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "counted" {
			w.Header().Set("Content-Length", "100000")
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 50_000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	http2 := "http://" + serveUpstream(t, broken, nil)
	url := func(answer string) string {
		url, _ := answering(t, answer)
		return url
	}
	for _, up := range []struct {
		name, url, query string
		protocol         config.UpstreamProtocol
	}{
		{"a length", url("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "", config.HTTP1},
		{"a length, much", url("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 99_999)), "", config.HTTP1},
		{"no body", url("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"), "", config.HTTP1},
		{"chunks", url("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), "", config.HTTP1},
		{"half a chunk", url("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf"), "", config.HTTP1},
		{"half a last chunk", url("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n"), "", config.HTTP1},
		{"half a trailer", url("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX-Sum: 1\r\n"), "", config.HTTP1},
		{"a malformed chunk", url("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n"), "", config.HTTP1},
		{"over HTTP/2", http2, "", config.H2C},
		{"over HTTP/2, a length", http2, "counted", config.H2C},
	} {
		log := &gatetest.Log{}
		s := newHarness(t, up.url, log, func(cfg *config.Config) { cfg.APIs[0].Upstream.Protocol = up.protocol })
		address := s.listen(t)
		for i, protocol := range []string{"http/1.1", "h2"} {
			answer, err := do(t, s, address, s.token, protocol, http.MethodGet, nil, func(r *http.Request) { r.URL.RawQuery = up.query })
			if err == nil {
				_, err = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
			if err == nil {
				t.Errorf("%s to %s: the client got %s and a whole body, want an error", up.name, protocol, answer.Status)
			}
			gatetest.EventuallyEqual(t, "log lines with upstream_reset", i+1, func() int { return strings.Count(log.String(), `"failure":"upstream_reset"`) })
		}
	}
}

// A gRPC call whose upstream is gone in the middle of its stream fails.
func TestTruncatedGRPC(t *testing.T) {
	gone := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = w.Write([]byte{0, 0, 0, 0, 0}) // an empty message
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	s := newHarness(t, "http://"+serveUpstream(t, gone, nil), io.Discard, withGRPC(t, config.H2C))
	stream, err := dialGRPC(t, s, s.listen(t), s.token).StreamingOutputCall(t.Context(), &pb.StreamingOutputCallRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatalf("the first message: %v", err)
	}
	if _, err := stream.Recv(); err == nil || err == io.EOF { //nolint:errorlint // EOF itself is the end of a whole stream
		t.Errorf("after a truncated stream, Recv returned %v, want an error", err)
	}
}

// No client gets bytes of the body of another response or request, although buffers are reused and clients leave
// in the middle of bodies.
func TestBuffersAreNotShared(t *testing.T) {
	const size = 300_000
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		letter := strings.TrimPrefix(r.URL.Path, "/accounts/")
		received, _ := io.ReadAll(r.Body)
		if strings.Trim(string(received), letter) != "" {
			w.Header().Set("X-Mixed", "request")
		}
		_, _ = io.WriteString(w, strings.Repeat(letter, size))
	})
	s := newHarness(t, "http://"+serveUpstream(t, api, nil), io.Discard)
	address := s.listen(t)
	for _, protocol := range []string{"h2", "http/1.1"} {
		transport := &http.Transport{TLSClientConfig: s.clientConfig(protocol), ForceAttemptHTTP2: protocol == "h2"}
		defer transport.CloseIdleConnections()
		var clients errgroup.Group
		for i := range 16 {
			letter := string(rune('a' + i))
			clients.Go(func() error {
				for round := range 12 {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/accounts/"+letter, strings.NewReader(strings.Repeat(letter, 3000)))
					r.Host = "api.example.test"
					r.Header.Set("Authorization", "Bearer "+s.token)
					answer, err := transport.RoundTrip(r)
					if err != nil {
						return err
					}
					part := int64(size)
					if (round+i)%2 == 0 {
						part = 10_000
					}
					text, err := io.ReadAll(io.LimitReader(answer.Body, part))
					if part < size {
						cancel() // resets the stream while the gate writes
					}
					_ = answer.Body.Close()
					if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get("X-Mixed") != "" || strings.Trim(string(text), letter) != "" || int64(len(text)) != part {
						return fmt.Errorf("%s got %s, %d bytes, mixed %q or in the response, %w", letter, answer.Status, len(text), answer.Header.Get("X-Mixed"), err)
					}
				}
				return nil
			})
		}
		if err := clients.Wait(); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

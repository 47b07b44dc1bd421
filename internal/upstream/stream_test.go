package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/http1"
)

// streamed returns a POST whose body is sent while it arrives.
func streamed(body io.Reader, length int64) *Request {
	return &Request{Method: "POST", Target: "/", Host: "api.example.test", Body: &closing{Reader: body}, Length: length}
}

// echo sends the body of each request back as it arrives, in chunks.
func echo(s *server, conn net.Conn, in *bufio.Reader) {
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		s.requests.Add(1)
		out := bufio.NewWriter(conn)
		_, _ = out.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		_ = out.Flush()
		buffer := make([]byte, 4<<10)
		for err == nil {
			var n int
			if n, err = r.Body.Read(buffer); n > 0 {
				_ = http1.WriteChunk(out, buffer[:n])
				_ = out.Flush()
			}
		}
		if !isEnd(err) {
			return
		}
		_ = http1.WriteLastChunk(out, nil)
		_ = out.Flush()
	}
}

// Each body arrives whole, and each connection serves one request.
func TestStreamedBodies(t *testing.T) {
	settings, trusting := secure()
	for _, encrypted := range []bool{false, true} {
		offered, client := settings, trusting
		if !encrypted {
			offered, client = nil, nil
		}
		s := listen(t, offered, echo)
		c := clientOf(t, s, client, enough).Client
		sent := int64(0)
		for _, size := range []int{longestBody + 1, 32 << 10, 100_000, 3 << 20} {
			text := strings.Repeat("0123456789abcdef!", size/17+1)[:size]
			for name, r := range map[string]*Request{
				"length":       streamed(strings.NewReader(text), int64(size)),
				"chunks":       streamed(strings.NewReader(text), http1.Chunked),
				"end with it":  streamed(iotest.DataErrReader(strings.NewReader(text)), int64(size)),
				"small pieces": streamed(iotest.HalfReader(strings.NewReader(text)), http1.Chunked),
			} {
				sent++
				response, err := c.RoundTrip(t.Context(), r)
				if err != nil {
					t.Fatalf("%s, %d bytes: %v", name, size, err)
				}
				got, err := io.ReadAll(response.Body)
				if err != nil || string(got) != text {
					t.Errorf("%s, %d bytes: got %d bytes, %v, want the body", name, size, len(got), err)
				}
				_ = response.Body.Close()
				gatetest.Eventually(t, "the body is closed", r.Body.(*closing).closed.Load)
			}
		}
		if got := s.connections.Load(); got != sent {
			t.Errorf("%d requests took %d connections, want one for each", sent, got)
		}
	}
}

// A client and a server can talk in turns: the response begins before the body has ended.
func TestFullDuplex(t *testing.T) {
	s := listen(t, nil, echo)
	body, rest := io.Pipe()
	response, err := clientOf(t, s, nil, enough).Client.RoundTrip(t.Context(), streamed(body, http1.Chunked))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(rest, text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != text {
			t.Fatalf("got %q, %v, want %q", got, err, text)
		}
	}
	_ = rest.Close()
	if got, err := io.ReadAll(response.Body); err != nil || len(got) > 0 {
		t.Errorf("at the end got %q, %v, want nothing", got, err)
	}
}

// The server never takes a part of a body for the whole.
func TestIncompleteStream(t *testing.T) {
	whole := make(chan bool, 1)
	s := listen(t, nil, func(s *server, conn net.Conn, in *bufio.Reader) {
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.Copy(io.Discard, r.Body)
		whole <- err == nil
	})
	c := clientOf(t, s, nil, enough).Client
	broken := errors.New("the client is gone")
	const size = 100_000
	text := strings.Repeat("x", size)
	for _, tt := range []struct {
		name   string
		body   io.Reader
		length int64
		want   error
	}{
		{"broken", io.MultiReader(strings.NewReader(text[1:]), iotest.ErrReader(broken)), size, broken},
		{"broken at the end", io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), size, broken},
		{"broken chunks", io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), http1.Chunked, broken},
		{"short", strings.NewReader(text[1:]), size, io.ErrUnexpectedEOF},
		{"long", strings.NewReader(text + "x"), size, errLonger},
		{"long, in pieces", io.MultiReader(strings.NewReader(text), strings.NewReader("x")), size, errLonger},
	} {
		if response, err := c.RoundTrip(t.Context(), streamed(tt.body, tt.length)); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %+v, %v, want %v", tt.name, response, err, tt.want)
		}
		if <-whole {
			t.Errorf("%s: the server got a whole body", tt.name)
		}
	}
}

// A server may respond, and may close the connection, before the body has been sent.
func TestEarlyResponse(t *testing.T) {
	for _, closes := range []bool{false, true} {
		s := listen(t, nil, func(_ *server, conn net.Conn, in *bufio.Reader) {
			if _, err := http.ReadRequest(in); err != nil { // its header
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nfine")
			if !closes {
				_, _ = in.WriteTo(io.Discard)
			}
		})
		c := clientOf(t, s, nil, enough).Client
		body, rest := io.Pipe()
		for range 2 {
			r := streamed(body, http1.Chunked)
			response, err := c.RoundTrip(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(response.Body); err != nil || response.Status != 413 || string(got) != "fine" {
				t.Errorf("got %d, %q, %v, want 413", response.Status, got, err)
			}
		}
		_ = rest.CloseWithError(http.ErrBodyReadAfterClose)
		if got := s.connections.Load(); got != 2 {
			t.Errorf("2 requests took %d connections, want 2", got)
		}
		gatetest.Eventually(t, "the connections are closed", func() bool { return s.living() == 0 })
	}
}

// HeaderTimeout begins when the body has been sent.
func TestHeaderTimeoutAfterStream(t *testing.T) {
	const timeout = 50 * time.Millisecond
	s := listen(t, nil, func(_ *server, _ net.Conn, in *bufio.Reader) { _, _ = in.WriteTo(io.Discard) })
	c := clientOf(t, s, nil, timeout).Client
	body := &slowReader{strings.Repeat("x", 500), timeout / 2}
	began := time.Now()
	response, err := c.RoundTrip(t.Context(), streamed(body, http1.Chunked))
	if class(err) != "timeout" || time.Since(began) < 3*timeout {
		t.Errorf("got %+v, %v after %s, want a timeout after %s", response, err, time.Since(began), 5*timeout/2+timeout)
	}
}

// The end of the context ends a stream whether it waits for the client or for the server.
func TestCancelledStream(t *testing.T) {
	why := errors.New("the decision has changed")
	for _, waitsForClient := range []bool{true, false} {
		begun := make(chan struct{})
		s := listen(t, nil, func(_ *server, _ net.Conn, in *bufio.Reader) {
			_, _ = in.Peek(1)
			close(begun)
			<-t.Context().Done()
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-begun
			cancel(why)
		}()
		body, rest := io.Pipe()
		r := streamed(body, http1.Chunked)
		if !waitsForClient {
			r.Body = io.NopCloser(endless{})
		}
		if response, err := clientOf(t, s, nil, enough).Client.RoundTrip(ctx, r); !errors.Is(err, why) {
			t.Errorf("got %+v, %v, want %v", response, err, why)
		}
		_ = rest.CloseWithError(http.ErrBodyReadAfterClose)
	}
}

// An endless body never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A tunnel first returns the bytes that arrived with the 101.
func TestTunnel(t *testing.T) {
	settings, trusting := secure()
	for _, encrypted := range []bool{false, true} {
		offered, client := settings, trusting
		if !encrypted {
			offered, client = nil, nil
		}
		s := listen(t, offered, func(s *server, conn net.Conn, in *bufio.Reader) {
			s.next(in)
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nX: y\r\n\r\nhello")
			got, _ := io.ReadAll(in)
			_, _ = conn.Write(got)
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := clientOf(t, s, client, 500*time.Millisecond).Client
		ask := func() *Response {
			t.Helper()
			response, err := c.RoundTrip(ctx, &Request{Method: "GET", Target: "/", Upgrade: "websocket"})
			if err != nil || response.Tunnel == nil || len(response.Fields) != 1 {
				t.Fatalf("got %+v, %v, want a tunnel", response, err)
			}
			return response
		}
		tunnel := ask().Tunnel
		time.Sleep(600 * time.Millisecond) // HeaderTimeout does not bound the tunnel
		if _, err := io.WriteString(tunnel, " back"); err != nil {
			t.Fatal(err)
		}
		if err := tunnel.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(tunnel); err != nil || string(got) != "hello back" {
			t.Errorf("got %q, %v, want %q", got, err, "hello back")
		}
		_ = tunnel.Close()

		tunnel = ask().Tunnel
		cancel()
		if _, err := io.Copy(io.Discard, tunnel); err == nil {
			t.Error("the tunnel ended without an error, want the end of the context to close it")
		}
		_ = tunnel.Close()
		gatetest.Eventually(t, "the connections are closed", func() bool { return s.living() == 0 })
	}
}

// A switch that the request did not ask for, or to another protocol, is an error. A server may also refuse
// to switch.
func TestUpgrade(t *testing.T) {
	const switching = "HTTP/1.1 101 Switching Protocols\r\n"
	for answer, want := range map[string]int{
		switching + "Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n\r\n":                            101,
		switching + "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n":                                              0,
		switching + "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n":                  0,
		switching + "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n\r\n":                                   0,
		switching + "Upgrade:\r\nConnection: Upgrade\r\n\r\n":                                                  0,
		switching + "Connection: Upgrade\r\n\r\n":                                                              0,
		switching + "Upgrade: websocket\r\n\r\n":                                                               0,
		switching + "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 4\r\n\r\nfine":               0,
		switching + "Upgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 0,
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nfine":                                            400,
	} {
		s := listen(t, nil, answering(answer, false))
		c := clientOf(t, s, nil, enough).Client
		for range 2 {
			response, err := c.RoundTrip(t.Context(), &Request{Method: "GET", Target: "/", Upgrade: "websocket"})
			if got := statusOf(response); got != want || (err == nil) != (want != 0) {
				t.Errorf("after %q got status %d, %v, want %d", answer, got, err, want)
			}
			if response != nil {
				_ = response.Body.Close()
			}
		}
		if got := s.connections.Load(); got != 2 {
			t.Errorf("after %q, 2 requests took %d connections, want 2", answer, got)
		}
		response, err := c.RoundTrip(t.Context(), &Request{Method: "GET", Target: "/"})
		if want == 101 {
			want = 0
		}
		if got := statusOf(response); got != want {
			t.Errorf("without Upgrade, after %q got status %d, %v, want %d", answer, got, err, want)
		}
		if response != nil {
			_ = response.Body.Close()
		}
	}
}

func statusOf(r *Response) int {
	if r == nil {
		return 0
	}
	return r.Status
}

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// T-DOS-01, T-DOS-03, T-H2-10: at each stage a slow client is cut off by the limit of that stage;
// all other limits are far away. Its resources are free again, and other clients are served.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		limit string // the limit that ends the request
		mode  string // the behaviour of the upstream
		h2    bool
		raw   bool // TCP alone
		act   func(s *slow)
		keep  bool // only the request is ended, not the connection
	}{
		{name: "TLS handshake", limit: "handshake_timeout", raw: true, act: func(s *slow) { s.drip("\x16\x03\x01\x40\x00" + strings.Repeat("\x01", 2000)) }},
		{name: "silence before the handshake", limit: "handshake_timeout", raw: true, act: func(*slow) {}},
		{name: "silence after the handshake", limit: "header_timeout", act: func(*slow) {}},
		{name: "request line", limit: "header_timeout", act: func(s *slow) { s.drip("GET /" + strings.Repeat("a", 2000)) }},
		{name: "header", limit: "header_timeout", act: func(s *slow) { s.drip("GET / HTTP/1.1\r\nX-Slow: " + strings.Repeat("a", 2000)) }},
		{name: "body", limit: "stall_timeout", act: func(s *slow) {
			s.write(s.request("POST", "Content-Length: 1000\r\n") + "the first bytes")
		}},
		{name: "answer", limit: "stall_timeout", mode: "flood", act: func(s *slow) { s.write(s.request("GET", "")); s.deaf = true }},
		{name: "next request", limit: "idle_timeout", act: func(s *slow) { s.write(s.request("GET", "")) }},
		// Over HTTP/2 a header has no limit of its own: a connection without an open stream
		// is an idle one, and one with a stream must answer pings.
		{name: "header, HTTP/2", limit: "idle_timeout", h2: true, act: func(s *slow) {
			s.drip("\x00\x10\x00\x01\x04\x00\x00\x00\x01" + strings.Repeat("\x00", 2000))
		}},
		{name: "header beside a request, HTTP/2", limit: "idle_timeout", mode: "hang", h2: true, act: func(s *slow) {
			s.headers(1, "GET", true)
			s.drip("\x00\x10\x00\x01\x04\x00\x00\x00\x03" + strings.Repeat("\x00", 2000))
		}},
		{name: "body, HTTP/2", limit: "stall_timeout", h2: true, keep: true, act: func(s *slow) {
			s.headers(1, "POST", false)
			s.check(s.framer.WriteData(1, false, []byte("the first bytes")))
		}},
		{name: "answer on a stream, HTTP/2", limit: "stall_timeout", mode: "flood", h2: true, keep: true, act: func(s *slow) { s.headers(1, "GET", true) }},
		{name: "answers, HTTP/2", limit: "stall_timeout", mode: "flood", h2: true, act: func(s *slow) {
			s.check(s.framer.WriteWindowUpdate(0, 1<<30))
			s.check(s.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
			s.headers(1, "GET", true)
			s.deaf = true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &slow{reloading: newReloading(t)}
			limits := map[string]string{"handshake_timeout": "1m", "header_timeout": "1m", "stall_timeout": "1m", "idle_timeout": "1m"}
			const short = 700 * time.Millisecond
			limits[c.limit] = short.String()
			if c.h2 && c.mode == "hang" { // the gate sends a ping after c.limit, and waits header_timeout for the answer
				limits["header_timeout"] = short.String()
			}
			var text strings.Builder
			for name, value := range limits {
				fmt.Fprintf(&text, ", %s: %s", name, value)
			}
			s.configure(", stall_timeout: 30s", text.String())
			s.serve()
			if c.mode != "" {
				s.upstream.behave(c.mode)
			}

			began := time.Now()
			s.connect(c.raw, c.h2)
			defer func() { _ = s.conn.Close() }()
			c.act(s)
			if !s.deaf && !c.keep {
				_ = s.conn.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.Copy(io.Discard, s.conn); err != nil && strings.Contains(err.Error(), "i/o timeout") {
					t.Fatal("the connection stays open")
				}
			}
			if c.keep {
				s.check(s.expect(`tallygate_requests_in_flight{listener="partners"}`, 1))
			}
			for _, series := range []string{"tallygate_connections_active", "tallygate_requests_in_flight"} {
				if c.keep && series == "tallygate_connections_active" {
					continue
				}
				s.check(s.expect(series+`{listener="partners"}`, 0))
			}
			if took := time.Since(began); took < short {
				t.Errorf("cut off after %s, the limit is %s", took, short)
			}
			s.upstream.behave("echo")
			s.check(s.call([]string{"-cert", "northwind", "-token", "good", "GET", "/accounts/7"}))
			s.check(s.granted(200))
			_ = s.conn.Close()
			s.check(s.stop())
		})
	}
}

// A slow client and its gate.
type slow struct {
	*reloading
	conn   net.Conn
	framer *http2.Framer
	away   frames // the received GOAWAY frames
	deaf   bool   // the client reads nothing from its connection
}

func (s *slow) connect(raw, h2 bool) {
	s.t.Helper()
	var err error
	if raw {
		s.conn, err = net.Dial("tcp", s.addresses["partners"])
		s.check(err)
		return
	}
	protocol := "http/1.1"
	if h2 {
		protocol = "h2"
	}
	s.conn, err = tls.Dial("tcp", s.addresses["partners"], s.client("northwind", protocol))
	s.check(err)
	if h2 {
		s.write(http2.ClientPreface)
		s.framer = http2.NewFramer(s.conn, s.conn)
		s.check(s.framer.WriteSettings())
	}
}

func (s *slow) write(text string) {
	s.t.Helper()
	_, err := io.WriteString(s.conn, text)
	s.check(err)
}

// drip sends text byte by byte in the background, until the connection ends.
func (s *slow) drip(text string) {
	conn := s.conn
	go func() {
		for i := range text {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}

func (s *slow) request(method, header string) string {
	return method + " /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer " + s.tokens["good"] + "\r\n" + header + "\r\n"
}

func (s *slow) headers(stream uint32, method string, end bool) {
	s.t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	fields := [][2]string{
		{":method", method}, {":scheme", "https"}, {":authority", "api.example.test"}, {":path", "/accounts/7"},
		{"authorization", "Bearer " + s.tokens["good"]},
	}
	if !end { // a body without a length would be a stream, which may pause
		fields = append(fields, [2]string{"content-length", "1000"})
	}
	for _, field := range fields {
		s.check(encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
	}
	s.check(s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end}))
}

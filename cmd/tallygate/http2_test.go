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

	"github.com/tallygate/tallygate/internal/gate"
)

// A rawClient sends any HTTP/2 frames, valid or not.
type rawClient struct {
	conn   *tls.Conn
	frames *http2.Framer
	block  bytes.Buffer
	fields *hpack.Encoder
	offers []http2.Setting // the settings of the gate
}

func (r *reloading) rawClient(t *testing.T) *rawClient {
	t.Helper()
	return r.rawClientTo(t, gate.PartnersListener, "northwind")
}

// rawClientTo returns a client that is connected to a listener; certificate may be "".
func (r *reloading) rawClientTo(t *testing.T, listener, certificate string) *rawClient {
	t.Helper()
	c, err := r.dialRaw(listener, certificate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// dialRaw is rawClientTo for use in any goroutine. The caller closes the connection.
func (r *reloading) dialRaw(listener, certificate string) (*rawClient, error) {
	conn, err := tls.Dial("tcp", r.addresses[listener], r.client(certificate, "h2"))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &rawClient{conn: conn, frames: http2.NewFramer(conn, conn)}
	c.frames.AllowIllegalWrites = true
	c.frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fields = hpack.NewEncoder(&c.block)
	_, err = io.WriteString(conn, http2.ClientPreface)
	if err == nil {
		err = c.frames.WriteSettings()
	}
	return c, err
}

// good is the header of a request that is granted.
func (r *reloading) good(method string) []string {
	return []string{":method", method, ":scheme", "https", ":authority", "api.example.test", ":path", "/accounts/7", "authorization", "Bearer " + r.tokens["good"]}
}

// header encodes fields, alternating names and values, as a header block.
func (c *rawClient) header(fields ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.fields.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

// send sends one HEADERS frame.
func (c *rawClient) send(stream uint32, end bool, fields ...string) error {
	return c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.header(fields...), EndStream: end, EndHeaders: true})
}

// sendLong sends a header that may need CONTINUATION frames, and ends the stream.
func (c *rawClient) sendLong(stream uint32, fields ...string) error {
	const most = 16 << 10 // in one frame, RFC 9113 section 4.2
	block := c.header(fields...)
	first := block[:min(len(block), most)]
	rest := block[len(first):]
	err := c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: true, EndHeaders: len(rest) == 0})
	for len(rest) > 0 && err == nil {
		next := rest[:min(len(rest), most)]
		rest = rest[len(next):]
		err = c.frames.WriteContinuation(stream, len(rest) == 0, next)
	}
	return err
}

// outcome waits for the result of a stream: a status, or the error code that ended the stream or
// its connection.
func (c *rawClient) outcome(stream uint32) string {
	for {
		frame, err := c.frames.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			_ = frame.ForeachSetting(func(s http2.Setting) error { c.offers = append(c.offers, s); return nil })
		case *http2.MetaHeadersFrame:
			if frame.StreamID == stream {
				return frame.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				return frame.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				return "goaway " + frame.ErrCode.String()
			}
		}
	}
}

// T-H2-04 to 08, 11, 13: malformed messages do not reach the upstream, and the connection and the
// gate stay up.
func TestHTTP2Messages(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	good, post := r.good("GET"), r.good("POST")
	without := func(name string) []string {
		var rest []string
		for i := 0; i < len(good); i += 2 {
			if good[i] != name {
				rest = append(rest, good[i], good[i+1])
			}
		}
		return rest
	}
	with := func(more ...string) []string { return append(append([]string{}, good...), more...) }
	broken := []string{"PROTOCOL_ERROR", "400"}
	for _, tt := range []struct {
		name   string
		fields []string
		want   []string
	}{
		{"an upper-case name, T-H2-05", with("X-Upper", "a"), broken},
		{"connection, T-H2-05", with("connection", "close"), broken},
		{"transfer-encoding, T-H2-05", with("transfer-encoding", "chunked"), broken},
		{"te: gzip, T-H2-05", with("te", "gzip"), broken},
		{"te: trailers and more, T-H2-13", with("te", "trailers, gzip"), broken},
		{"upgrade, T-H2-05", with("upgrade", "websocket"), broken},
		{"proxy-connection, T-H2-05", with("proxy-connection", "keep-alive"), broken},
		{"no method, T-H2-06", without(":method"), broken},
		{"no path, T-H2-06", without(":path"), broken},
		{"no scheme, T-H2-06", without(":scheme"), broken},
		{"an empty path, T-H2-06", append(without(":path")[:6:6], ":path", "", "authorization", good[9]), broken},
		{"two paths, T-H2-06", append([]string{":path", "/accounts/8"}, good...), broken},
		{"two authorities, T-H2-06", append([]string{":authority", "evil.test"}, good...), broken},
		{"a pseudo field last, T-H2-06", append(without(":authority"), ":authority", "api.example.test"), broken},
		{"an unknown pseudo field, T-H2-06", append([]string{":partner", "a"}, good...), broken},
		{"CR LF in a value, T-H2-07", with("x-a", "b\r\ntallygate-partner: admin"), broken},
		{"NUL in a value, T-H2-07", with("x-a", "b\x00c"), broken},
		{"a colon in a name, T-H2-07", with("x-a:b", "c"), broken},
		{"a space in a name, T-H2-07", with("x a", "c"), broken},
		{"a path with CR LF, T-H2-07", append(without(":path")[:6:6], ":path", "/accounts/7\r\nx: y", "authorization", good[9]), broken},
		{"extended CONNECT, T-H2-09", append([]string{":protocol", "websocket"}, r.good("CONNECT")...), broken},
		{"CONNECT with a path, T-H2-13", r.good("CONNECT"), broken},
		{"ftp, T-H2-13", append([]string{":scheme", "ftp"}, without(":scheme")...), broken},
		{"user in the authority, T-SNI-09", append(without(":authority")[:4:4], ":path", "/accounts/7", ":authority", "user@api.example.test", "authorization", good[9]), broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.rawClient(t)
			if err := c.send(1, true, tt.fields...); err != nil {
				t.Fatal(err)
			}
			got := c.outcome(1)
			if !strings.Contains(strings.Join(tt.want, " "), got) || got == "" {
				t.Errorf("became %q, want one of %v", got, tt.want)
			}
		})
	}
	t.Run("more and less than the length, T-H2-08", func(t *testing.T) {
		for body, want := range map[string]string{"0123456789": "PROTOCOL_ERROR", "": "400"} {
			c := r.rawClient(t)
			if err := c.send(1, false, append(post, "content-length", "5")...); err != nil {
				t.Fatal(err)
			}
			_ = c.frames.WriteData(1, true, []byte(body))
			if got := c.outcome(1); got != want {
				t.Errorf("%d bytes became %q", len(body), got)
			}
		}
	})
	t.Run("trailers that do not end, T-H2-11", func(t *testing.T) {
		c := r.rawClient(t)
		if err := c.send(1, false, post...); err != nil {
			t.Fatal(err)
		}
		_ = c.send(1, false, "x-checksum", "a")
		if got := c.outcome(1); !strings.Contains("PROTOCOL_ERROR goaway PROTOCOL_ERROR 400", got) || got == "" {
			t.Errorf("became %q", got)
		}
	})
	t.Run("a header that unpacks to 40 MB, T-H2-04", func(t *testing.T) {
		c := r.rawClient(t)
		block := c.header(append(good, "x-a", strings.Repeat("x", 4000))...)
		repeated := c.header("x-a", strings.Repeat("x", 4000)) // one byte, by the table
		block = append(block, bytes.Repeat(repeated, 10_000)...)
		if len(repeated) > 1 || len(block) > 16<<10 {
			t.Fatalf("packed in %d bytes", len(block))
		}
		if err := c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		if got := c.outcome(1); got != "431" && !strings.HasPrefix(got, "goaway") {
			t.Errorf("became %q", got)
		}
	})
	t.Run("http as the scheme, T-H2-13", func(t *testing.T) {
		c := r.rawClient(t)
		if err := c.send(1, true, append([]string{":scheme", "http"}, without(":scheme")...)...); err != nil {
			t.Fatal(err)
		}
		got := c.outcome(1)
		if received, _ := r.upstream.take(); got != "200" || !bytes.Contains(received, []byte("\r\nX-Forwarded-Proto: https\r\n")) {
			t.Errorf("became %q, and the upstream got\n%s", got, received)
		}
	})
	if received, n := r.upstream.peek(); n > 0 && bytes.Contains(received, []byte("\r\n\r\n01234")) || bytes.Contains(received, []byte("admin")) {
		t.Errorf("%d requests reached the upstream:\n%s", n, received)
	}
	visit, _ := r.visitor("northwind", "good", true, 0)
	expectVisit(t, visit, 200, "")
	r.check(r.stop())
}

// T-H2-01 to 03: a flood ends only its own connection.
func TestHTTP2Floods(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	good := r.good("GET")
	alive := func(t *testing.T) {
		t.Helper()
		visit, _ := r.visitor("northwind", "good", true, 0)
		expectVisit(t, visit, 200, "")
	}
	t.Run("rapid reset, T-H2-01", func(t *testing.T) {
		r.upstream.behave("hang")
		defer alive(t)
		defer r.upstream.behave("echo")
		c, sent := r.rawClient(t), 0
		for ; sent < 10_000; sent++ {
			id := uint32(2*sent + 1)
			if c.send(id, true, good...) != nil || c.frames.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
				break
			}
		}
		got := c.outcome(0)
		_, reached := r.upstream.peek()
		t.Logf("%d streams were sent, %d requests reached the upstream, then: %s", sent, reached, got)
		if got != "goaway ENHANCE_YOUR_CALM" && got != "closed" {
			t.Errorf("became %q", got)
		}
		if reached > sent/2 {
			t.Errorf("%d requests reached the upstream", reached)
		}
	})
	t.Run("too many streams, T-H2-01", func(t *testing.T) {
		r.upstream.behave("hang")
		defer alive(t)
		defer r.upstream.behave("echo")
		r.upstream.forget()
		c := r.rawClient(t)
		for i := range 129 {
			if err := c.send(uint32(2*i+1), true, good...); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.outcome(2*128 + 1); got != "REFUSED_STREAM" && got != "PROTOCOL_ERROR" {
			t.Errorf("the 129th became %q", got)
		}
		if _, n := r.upstream.peek(); n > 128 {
			t.Errorf("%d requests reached the upstream", n)
		}
		for _, s := range c.offers {
			if s.ID == http2.SettingMaxConcurrentStreams && s.Val != 128 || s.ID == http2.SettingEnableConnectProtocol && s.Val != 0 { // T-H2-09
				t.Errorf("the gate offers %v", s)
			}
		}
	})
	// The client repeats each frame and reads no answer. If the gate must keep nothing for the
	// answers, the flood costs the gate no more than the client, and the gate does not end it.
	for name, c := range map[string]struct {
		most  int
		cut   bool // the gate must end the connection
		frame func(*rawClient) error
	}{
		"CONTINUATION, T-H2-02": {1_000_000, true, func(c *rawClient) error { return c.frames.WriteContinuation(1, false, c.header("x-a", "b")) }},
		"PING, T-H2-03":         {1_000_000, true, func(c *rawClient) error { return c.frames.WritePing(false, [8]byte{}) }},
		"SETTINGS, T-H2-03":     {50_000, false, func(c *rawClient) error { return c.frames.WriteSettings() }},
		"PRIORITY, T-H2-03":     {50_000, false, func(c *rawClient) error { return c.frames.WritePriority(1, http2.PriorityParam{Weight: 1}) }},
		"empty DATA, T-H2-03":   {50_000, false, func(c *rawClient) error { return c.frames.WriteData(1, false, nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			client := r.rawClient(t)
			err := client.frames.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: client.header(r.good("POST")...), EndHeaders: !strings.HasPrefix(name, "CONT"),
			})
			if err != nil {
				t.Fatal(err)
			}
			sent := 0
			for ; sent < c.most && err == nil; sent++ {
				err = c.frame(client)
			}
			t.Logf("%d frames, then: %v", sent, err)
			if c.cut && err == nil {
				t.Error("the flood is not cut")
			}
			alive(t)
		})
	}
	r.check(r.stop())
}

// T-H2-10: the gate speaks HTTP/2 only over TLS with ALPN.
func TestHTTP2InClearText(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	secure, err := tls.Dial("tcp", r.addresses[gate.PartnersListener], r.client("northwind", "http/1.1"))
	r.check(err)
	plain, err := net.Dial("tcp", r.addresses[gate.PartnersListener])
	r.check(err)
	admin, err := net.Dial("tcp", r.addresses[gate.AdminListener])
	r.check(err)
	for name, conn := range map[string]net.Conn{"partners, HTTP/1.1": secure, "partners, in clear text": plain, "admin": admin} {
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = fmt.Fprintf(conn, "%s\x00\x00\x00\x04\x00\x00\x00\x00\x00", http2.ClientPreface)
		answer, _ := io.ReadAll(conn)
		if bytes.Contains(answer, []byte{0, 0, 4, 0, 0, 0}) || len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 505")) && !bytes.HasPrefix(answer, []byte("HTTP/1.0 400")) {
			t.Errorf("%s: answered %q", name, answer)
		}
		_ = conn.Close()
	}
	r.check(r.stop())
}

// The bytes that a client may send before an upstream reads them are held in memory, and bounded
// for each connection.
func TestHTTP2Windows(t *testing.T) {
	r := newReloading(t)
	r.configure()
	r.serve()
	c := r.rawClient(t)
	const least = 1<<16 - 1 // RFC 9113 section 6.9.2
	connection, stream := uint32(least), uint32(least)
	for told := 0; told < 2; {
		frame, err := c.frames.ReadFrame()
		r.check(err)
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if size, ok := frame.Value(http2.SettingInitialWindowSize); ok {
				stream = size
				told++
			}
		case *http2.WindowUpdateFrame:
			connection += frame.Increment
			told++
		}
	}
	if connection > 256<<10 || stream > 256<<10 {
		t.Errorf("windows of %d bytes for a connection, %d for a stream", connection, stream)
	}
	_ = c.conn.Close()
	r.check(r.stop())
}

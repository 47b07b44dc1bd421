package httpserver

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/mtls"
)

// The first bytes of every header of version 2.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// header returns a header: version and command, family and protocol, and the bytes after the length.
func header(command, family byte, rest string) string {
	return signature + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(rest)))) + rest
}

const (
	source4 = "\xc0\x00\x02\x07\xc0\x00\x02\x01\x30\x39\x01\xbb"                                                           // 192.0.2.7:12345 to 192.0.2.1:443
	source6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "0123456789abcdef" + "\x30\x39\x01\xbb" // 2001:db8::7
)

// A connection from a trusted address must begin with a valid header of version 2. On other
// connections the same bytes are data.
func TestProxyProtocolListener(t *testing.T) {
	const real = "127.0.0.1"
	trusting := &config.ProxyProtocol{Trusted: []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}
	others := &config.ProxyProtocol{Trusted: []config.Network{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}}
	for _, tt := range []struct {
		name     string
		settings *config.ProxyProtocol
		sent     string
		read     string // "" when the connection breaks
		remote   string
	}{
		{"IPv4", trusting, header(0x21, 0x11, source4) + "hello", "hello", "192.0.2.7:12345"},
		{"IPv6", trusting, header(0x21, 0x21, source6) + "hello", "hello", "[2001:db8::7]:12345"},
		{"with more fields", trusting, header(0x21, 0x11, source4+"\x05\x00\x02ab\x04\x00\x01x") + "hello", "hello", "192.0.2.7:12345"},
		{"its own", trusting, header(0x20, 0x00, "") + "hello", "hello", real},
		{"its own, with addresses", trusting, header(0x20, 0x11, source4) + "hello", "hello", real},
		{"nothing", trusting, "hello", "", real},
		{"TLS at once", trusting, "\x16\x03\x01\x02\x00\x01", "", real},
		{"version 1", trusting, "PROXY TCP4 192.0.2.7 192.0.2.1 12345 443\r\nhello", "", real},
		{"version 1, unknown", trusting, "PROXY UNKNOWN\r\nhello", "", real},
		{"version 3", trusting, header(0x31, 0x11, source4) + "hello", "", real},
		{"another command", trusting, header(0x22, 0x11, source4) + "hello", "", real},
		{"of no family", trusting, header(0x21, 0x00, "") + "hello", "", real},
		{"of UDP", trusting, header(0x21, 0x12, source4) + "hello", "", real},
		{"of a unix socket", trusting, header(0x21, 0x31, strings.Repeat("/", 216)) + "hello", "", real},
		{"of an unknown protocol", trusting, header(0x21, 0x13, source4) + "hello", "", real},
		{"addresses cut short", trusting, header(0x21, 0x11, source4[:11]) + "hello", "", real},
		{"IPv6 that is IPv4", trusting, header(0x21, 0x21, source4) + "hello", "", real},
		{"as long as it may be", trusting, header(0x21, 0x11, source4+strings.Repeat("x", 65535-12)) + "hello", "", real},
		{"it ends within", trusting, header(0x21, 0x11, source4)[:20], "", real},
		{"a broken signature", trusting, "\r\n\r\n\x00\r\nQUIT\r\x21\x11\x00\x0c" + source4, "", real},
		{"a second header", trusting, header(0x21, 0x11, source4) + header(0x21, 0x21, source6), header(0x21, 0x21, source6), "192.0.2.7:12345"},

		{"from another address", others, header(0x21, 0x11, source4), header(0x21, 0x11, source4), real},
		{"from anybody", nil, header(0x21, 0x11, source4), header(0x21, 0x11, source4), real},
		{"hello from another address", others, "hello", "hello", real},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := newProxyProtocolListener(inner, func() *config.ProxyProtocol { return tt.settings }, 10*time.Second)
			defer func() { _ = l.Close() }()
			client, err := net.Dial("tcp", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			c, err := l.Accept() // before the client sends: Accept must not wait
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			// The address of the socket does not depend on the header.
			if got := mtls.SocketPeer(c); got != netip.MustParseAddr(real) {
				t.Errorf("SocketPeer(%q) = %s before the header, want %s", tt.name, got, real)
			}
			if _, err := io.WriteString(client, tt.sent); err != nil {
				t.Fatal(err)
			}
			_ = client.(*net.TCPConn).CloseWrite()
			remote := c.RemoteAddr().String()
			if tt.remote == real {
				remote, _, _ = net.SplitHostPort(remote)
			}
			read, err := io.ReadAll(c)
			if string(read) != tt.read || (err == nil) != (tt.read != "") || remote != tt.remote {
				t.Errorf("ReadAll = %q, %v from %s; want %q from %s", read, err, remote, tt.read, tt.remote)
			}
		})
	}
}

// A missing or incomplete header ends its connection after the timeout, and Accept does not wait.
func TestProxyProtocolTimeout(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	trusting := &config.ProxyProtocol{Trusted: []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}}
	l := newProxyProtocolListener(inner, func() *config.ProxyProtocol { return trusting }, 50*time.Millisecond)
	defer func() { _ = l.Close() }()
	for _, sent := range []string{"", "\r", signature, header(0x21, 0x11, source4)[:27]} {
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(client, sent); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || errors.Is(err, io.EOF) {
				t.Errorf("Read after %q returned %v, want a timeout", sent, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("Read after %q did not return within 10 s, want an error after 50 ms", sent)
		}
		_, _ = client.Close(), c.Close()
	}
}

// Behind a load balancer too, a response without a length that breaks off ends with a reset. A close would make it
// look whole.
func TestProxyProtocolBreakOff(t *testing.T) {
	trusting := &config.ProxyProtocol{Trusted: []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}
	s := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "fine")
		flush(w)
		panic(http.ErrAbortHandler)
	}, plain, func(s *Server) { s.ProxyProtocol = func() *config.ProxyProtocol { return trusting } })
	c := s.dial(t)
	send(t, c, header(0x21, 0x11, source4)+"GET / HTTP/1.0\r\n\r\n")
	if all, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ReadAll = %q, %v, want %v", all, err, syscall.ECONNRESET)
	}
}

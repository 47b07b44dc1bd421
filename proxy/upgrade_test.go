package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// The handshake of RFC 6455 section 1.3.
const (
	webSocketKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	webSocketAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// echo switches to WebSocket and returns all bytes until the end of the connection.
func echo(w http.ResponseWriter, _ *http.Request) error {
	conn, buffers, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade, Secret-Hop\r\nupgrade: WebSocket\r\n"+
		"Sec-WebSocket-Accept: "+webSocketAccept+"\r\nTallygate-Partner: leaked\r\nSecret-Hop: leaked\r\nKeep-Alive: leaked\r\nX-Request-Id: leaked\r\n\r\n")
	if err != nil {
		return err
	}
	_, err = io.Copy(conn, buffers.Reader)
	return err
}

// upgrade sends a request with the given header lines and returns the connection, the response, and a
// reader of the bytes after its header.
func upgrade(t *testing.T, s *harness, address, method, fields string) (*tls.Conn, *http.Response, *bufio.Reader) {
	t.Helper()
	conn, err := tls.Dial("tcp", address, s.clientConfig("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, method+" /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\n"+fields)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	received := bufio.NewReader(conn)
	answer, err := http.ReadResponse(received, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, answer, received
}

const webSocketFields = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + webSocketKey + "\r\n"

func dialWebSocket(t *testing.T, s *harness, address, token string) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	conn, answer, received := upgrade(t, s, address, http.MethodGet, webSocketFields+"Authorization: Bearer "+token+"\r\n\r\n") //nolint:bodyclose // it is the connection
	h := answer.Header
	if answer.StatusCode != http.StatusSwitchingProtocols || h.Get("Sec-WebSocket-Accept") != webSocketAccept ||
		!strings.EqualFold(h.Get("Upgrade"), "websocket") || h.Get("Connection") != "Upgrade" || h.Get("X-Request-Id") == "leaked" {
		t.Fatalf("got %s %v", answer.Status, h)
	}
	for _, name := range []string{"Tallygate-Partner", "Secret-Hop", "Keep-Alive"} {
		if h.Get(name) != "" {
			t.Errorf("the response has header %s", name)
		}
	}
	return conn, received
}

func say(t *testing.T, conn io.Writer, received io.Reader, text string) string {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(received, back); err != nil {
		t.Fatal(err)
	}
	return string(back)
}

// TestWebSocket checks that a real client and a real server exchange small and large messages through
// the gate, and that the server gets the identity headers.
func TestWebSocket(t *testing.T) {
	partner := make(chan string, 1)
	upstream := httptest.NewServer(websocket.Server{Handler: func(ws *websocket.Conn) {
		partner <- ws.Request().Header.Get("Tallygate-Partner")
		_, _ = io.Copy(ws, ws)
	}})
	defer upstream.Close()
	log := &gatetest.Log{}
	s := newHarness(t, upstream.URL, log, withTunnel)
	conn, err := tls.Dial("tcp", s.listen(t), s.clientConfig("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	settings, err := websocket.NewConfig("wss://api.example.test/accounts/7", "https://api.example.test/")
	if err != nil {
		t.Fatal(err)
	}
	settings.Header.Set("Authorization", "Bearer "+s.token)
	settings.Header.Set("Tallygate-Partner", "admin")
	ws, err := websocket.NewClient(settings, conn)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-partner; got != "northwind" {
		t.Errorf("client_id header at the upstream = %q", got)
	}
	for _, size := range []int{1, 1000, 1 << 20} {
		sent, got := strings.Repeat("x", size), ""
		if err := websocket.Message.Send(ws, sent); err != nil {
			t.Fatal(err)
		}
		for len(got) < size { // the echo frames anew
			var part string
			if err := websocket.Message.Receive(ws, &part); err != nil {
				t.Fatal(err)
			}
			got += part
		}
		if got != sent {
			t.Errorf("message of %d bytes returned as %d different bytes", size, len(got))
		}
	}
	_ = ws.Close()
	line := log.Wait(t, `"msg":"request"`)
	if !strings.Contains(line, `"status":101`) || !strings.Contains(line, `"reason":"granted"`) || strings.Contains(line, `"failure"`) {
		t.Errorf("log line = %s", line)
	}
}

// T-SMG-15: an upgrade is granted only for a WebSocket handshake and on a route that lists websocket. A
// client without certificate and token does not learn which routes do.
func TestUpgradesThatAreRefused(t *testing.T) {
	reached := 0
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer upstream.Close()
	with, without := newHarness(t, upstream.URL, io.Discard, withTunnel), newHarness(t, upstream.URL, io.Discard)
	addresses := map[*harness]string{with: with.listen(t), without: without.listen(t)}
	const websockets, version = "Upgrade: websocket\r\n", "Sec-WebSocket-Version: 13\r\n"
	for _, tt := range []struct {
		name, method, fields string
		site                 *harness
		authorized           bool
		want                 string
	}{
		{"a route without", "GET", webSocketFields, without, true, "upgrade_not_allowed"},
		{"a route without, to a stranger", "GET", webSocketFields, without, false, "no_token"},
		{"a route with, to a stranger", "GET", webSocketFields, with, false, "no_token"},
		{"h2c", "GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", with, true, "upgrade_not_allowed"},
		{"h2c, to a stranger", "GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", with, false, "upgrade_not_allowed"},
		{"HTTP2-Settings beside", "GET", webSocketFields + "HTTP2-Settings: AAMAAABk\r\n", with, true, "upgrade_not_allowed"},
		{"HTTP2-Settings alone", "GET", "HTTP2-Settings: AAMAAABk\r\n", with, true, "upgrade_not_allowed"},
		{"two on a line", "GET", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n" + version, with, true, "upgrade_not_allowed"},
		{"two lines", "GET", "Connection: Upgrade\r\nUpgrade: h2c\r\n" + websockets + version, with, true, "upgrade_not_allowed"},
		{"the same twice", "GET", "Connection: Upgrade\r\n" + websockets + websockets + version, with, true, "upgrade_not_allowed"},
		{"a version", "GET", "Connection: Upgrade\r\nUpgrade: websocket/13\r\n" + version, with, true, "upgrade_not_allowed"},
		{"empty", "GET", "Connection: Upgrade\r\nUpgrade:\r\n", with, true, "upgrade_not_allowed"},
		{"not in Connection", "GET", websockets + version, with, true, "upgrade_not_allowed"},
		{"in Connection only", "GET", "Connection: Upgrade\r\n", with, true, "upgrade_not_allowed"},
		{"POST", "POST", webSocketFields, with, true, "upgrade_not_allowed"},
		{"with a body", "GET", webSocketFields + "Content-Length: 5\r\n", with, true, "upgrade_not_allowed"},
		{"with chunks", "GET", webSocketFields + "Transfer-Encoding: chunked\r\n", with, true, "upgrade_not_allowed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fields := tt.fields
			if tt.authorized {
				fields += "Authorization: Bearer " + tt.site.token + "\r\n"
			}
			_, answer, _ := upgrade(t, tt.site, addresses[tt.site], tt.method, fields+"\r\n") //nolint:bodyclose // it goes with the connection
			text, _ := io.ReadAll(answer.Body)
			if !strings.Contains(string(text), `"reason":"`+tt.want+`"`) {
				t.Errorf("got %s %s", answer.Status, text)
			}
		})
	}
	if reached > 0 {
		t.Errorf("%d requests at the upstream, want 0", reached)
	}
}

// T-SMG-16: an unrequested switch, or a switch to another protocol, is a failure of the upstream. Nothing
// that the upstream sends afterwards reaches the client.
func TestUnrequestedSwitches(t *testing.T) {
	for name, c := range map[string]struct {
		asked  bool
		answer string
	}{
		"unasked":             {false, "Connection: Upgrade\r\nUpgrade: websocket\r\n"},
		"unasked and unnamed": {false, ""},
		"to another":          {true, "Connection: Upgrade\r\nUpgrade: h2c\r\n"},
		"to two":              {true, "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n"},
		"to a list":           {true, "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"},
		"to nothing":          {true, "Connection: Upgrade\r\n"},
		"without Connection":  {true, "Upgrade: websocket\r\n"},
		"a no-break space":    {true, "Connection: \u00a0Upgrade\r\nUpgrade: websocket\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					if _, err = http.ReadRequest(bufio.NewReader(conn)); err == nil {
						_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\n%s\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsmuggle", c.answer)
					}
					_ = conn.Close()
				}
			}()
			s := newHarness(t, "http://"+l.Addr().String(), io.Discard, withTunnel)
			fields := "Authorization: Bearer " + s.token + "\r\nConnection: close\r\n\r\n"
			if c.asked {
				fields = webSocketFields + fields
			}
			_, answer, received := upgrade(t, s, s.listen(t), http.MethodGet, fields) //nolint:bodyclose // it goes with the connection
			text, _ := io.ReadAll(answer.Body)
			rest, _ := io.ReadAll(received)
			if answer.StatusCode != http.StatusBadGateway || !strings.Contains(string(text), `"reason":"upstream_reset"`) || len(rest) > 0 {
				t.Errorf("got %s %s, and then %q", answer.Status, text, rest)
			}
		})
	}
}

// Hop-by-hop headers and identity headers of informational responses are not forwarded.
func TestInformationalResponse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if _, err = http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\nUpgrade: websocket\r\nKeep-Alive: 5\r\nTallygate-Partner: x\r\nLink: </a>\r\n\r\n"+
				"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		}
	}()
	s := newHarness(t, "http://"+l.Addr().String(), io.Discard)
	conn, err := tls.Dial("tcp", s.listen(t), s.clientConfig("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+s.token+"\r\nConnection: close\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, _ := io.ReadAll(conn)
	first, rest, _ := strings.Cut(string(got), "\r\n\r\n")
	const want = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Request-Id: "
	if name, _, _ := strings.Cut(first, "X-Request-Id: "); !strings.HasPrefix(first, want) || strings.Contains(first[len(name):], "\r\n") || !strings.HasPrefix(rest, "HTTP/1.1 204 ") {
		t.Errorf("got %q, want a 103 with Link and X-Request-Id only, and a 204", got)
	}
}

// HTTP/2 has no 101 (RFC 9113 section 8.6), so a 101 of an HTTP/2 upstream must not reach the client.
func TestSwitchOverHTTP2(t *testing.T) {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
		_, _ = io.WriteString(w, "smuggled")
	}))
	upstream.Config.Protocols = new(http.Protocols)
	upstream.Config.Protocols.SetUnencryptedHTTP2(true)
	upstream.Start()
	defer upstream.Close()
	s := newHarness(t, upstream.URL, io.Discard, func(cfg *config.Config) { cfg.APIs[0].Upstream.Protocol = config.H2C })
	_, answer, _ := upgrade(t, s, s.listen(t), http.MethodGet, "Authorization: Bearer "+s.token+"\r\n\r\n") //nolint:bodyclose // it goes with the connection
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusBadGateway || !strings.Contains(string(text), `"reason":"upstream_reset"`) {
		t.Errorf("got %s %s", answer.Status, text)
	}
}

// The tunnel forwards bytes that the client sent before the 101, and one direction may be closed.
func TestTunnel(t *testing.T) {
	up := newStreamingUpstream(t)
	s := newHarness(t, up.URL, io.Discard, withTunnel)
	conn, _, received := upgrade(t, s, s.listen(t), http.MethodGet, webSocketFields+"Authorization: Bearer "+s.token+"\r\n\r\nearly") //nolint:bodyclose // it is the connection
	if _, err := io.WriteString(conn, " and late"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(received); err != nil || string(back) != "early and late" {
		t.Errorf("echo = %q, %v", back, err)
	}
}

package proxy

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
)

// asksForUpgrade reports whether r asks to switch its connection to another protocol. After a switch,
// later messages on the connection would bypass the checks of requests (RFC 9110 section 7.8).
func asksForUpgrade(r *http.Request) bool {
	return r.Header["Upgrade"] != nil || r.Header["Http2-Settings"] != nil || hasToken(r.Header["Connection"], "upgrade")
}

// asksForWebSocket reports whether r, which asks for an upgrade, is a WebSocket handshake (RFC 6455
// section 4.1). No route can allow any other protocol; in particular no route allows h2c.
func asksForWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.ContentLength == 0 &&
		r.Header["Http2-Settings"] == nil && isWebSocket(r.Header)
}

// isWebSocket reports whether h, the header of a request or of a 101 response, names WebSocket as the
// only protocol.
func isWebSocket(h http.Header) bool {
	protocols := h["Upgrade"]
	return len(protocols) == 1 && strings.EqualFold(protocols[0], string(config.WebSocket)) && hasToken(h["Connection"], "upgrade")
}

// A tunnel is the connection to the client after a switch to WebSocket. It may be idle for as long as
// the request is granted, but each write must end within a stall timeout.
type tunnel struct {
	net.Conn
	early []byte // bytes that the client sent before the 101
	stall time.Duration
}

func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(p, t.early)
		t.early = t.early[n:]
		return n, nil
	}
	return t.Conn.Read(p)
}

func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.SetWriteDeadline(time.Now().Add(t.stall)); err != nil {
		return 0, err
	}
	return t.Conn.Write(p)
}

// CloseWrite closes the direction from the gate to the client. ReverseProxy calls it when the
// upstream has closed its direction.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return t.Close()
}

// closeNow closes the connection without a TLS close_notify, which could block.
func (t *tunnel) closeNow() {
	if secure, ok := t.Conn.(interface{ NetConn() net.Conn }); ok { // a *tls.Conn or its wrapper
		_ = secure.NetConn().Close()
	}
	_ = t.Close()
}

// hijack takes the connection from net/http for a tunnel. The tunnel first returns the bytes that the
// client sent before the 101, which net/http has in its buffer.
func (c *clientConn) hijack() (*tunnel, *bufio.ReadWriter, error) {
	conn, buffers, err := c.control().Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	t := &tunnel{Conn: conn, early: append([]byte(nil), early...), stall: c.stall}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tunnel = t
	return t, buffers, nil
}

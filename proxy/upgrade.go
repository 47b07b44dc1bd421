package proxy

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/upstream/http1"
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

// Details for the log.
var (
	errUnrequestedSwitch = errors.New("the upstream switched to a protocol that the request did not ask for")
	errStatus            = errors.New("the upstream's status code is below 100")
)

// An upstreamRoundTripper is the Transport of ReverseProxy for one exchange. It checks each response
// before any part of it is sent to the client.
type upstreamRoundTripper struct{ exchange *exchange }

// RoundTrip sends r to the upstream.
func (p upstreamRoundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	x := p.exchange
	r, err := x.awaitFirstByte(r)
	if err != nil {
		return nil, err
	}
	answer, err := x.proxy.upstreams[x.decision.API].Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode < 100 { // net/http reads such a status, and panics when it writes one
		_ = answer.Body.Close()
		return nil, errStatus
	}
	switching := answer.StatusCode == http.StatusSwitchingProtocols
	if x.unrequested101.Load() || switching && (!x.upgrade || !isWebSocket(answer.Header)) {
		_ = answer.Body.Close()
		return nil, errUnrequestedSwitch
	}
	if switching {
		x.status = http.StatusSwitchingProtocols
		x.cleanSwitch(answer.Header)
	}
	x.trackResponse(answer)
	return answer, nil
}

// trackResponse starts the recheck for the time of the response body, unless the recheck already
// runs. A body that has arrived completely needs no recheck: its last bytes, at most 4 KiB, are
// written at once, within a stall timeout.
func (x *exchange) trackResponse(answer *http.Response) {
	body := answer.Body // ReverseProxy replaces the body of a tunnel
	kind := responseSized
	switch {
	case answer.StatusCode == http.StatusSwitchingProtocols:
		kind = responseStreaming
	case body == http.NoBody || answer.ContentLength == 0 || http1.Arrived(body):
		return
	case answer.ContentLength < 0:
		kind = responseStreaming
	}
	r := x.recheck
	if r == nil {
		r = x.startRecheck(func() { _ = body.Close() })
	}
	r.response.Store(kind)
}

// Hijack takes the connection from net/http for a tunnel. The tunnel first returns the bytes that the
// client sent before the 101, which net/http has in its buffer.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := x.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	t := &tunnel{Conn: conn, early: append([]byte(nil), early...), stall: x.proxy.stall}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.recheck.tunnel = t // trackResponse has started the recheck
	return t, buffers, nil
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

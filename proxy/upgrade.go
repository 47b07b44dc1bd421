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

// asksForUpgrade reports whether r wants to leave HTTP on this connection, which
// would be a way around every check that comes after (RFC 9110 section 7.8).
func asksForUpgrade(r *http.Request) bool {
	return r.Header["Upgrade"] != nil || r.Header["Http2-Settings"] != nil || hasToken(r.Header["Connection"], "upgrade")
}

// asksForWebSocket reports whether r, which asks for an upgrade, asks as RFC 6455 section
// 4.1 does. Nothing else can be allowed by a route, h2c above all.
func asksForWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.ContentLength == 0 &&
		r.Header["Http2-Settings"] == nil && isWebSocket(r.Header)
}

// isWebSocket reports whether the header asks for, or is, a switch to WebSocket alone.
func isWebSocket(h http.Header) bool {
	protocols := h["Upgrade"]
	return len(protocols) == 1 && strings.EqualFold(protocols[0], string(config.WebSocket)) && hasToken(h["Connection"], "upgrade")
}

// names reports whether a list of tokens, on one line or several, has one of that name.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), token) {
				return true
			}
		}
	}
	return false
}

// errSwitched is an upstream's answer that it switches protocols though nobody asked it to,
// or to another than it was asked for.
var errUnrequestedSwitch = errors.New("the upstream switched protocols without being asked")

var errStatus = errors.New("the upstream's status is no status of HTTP")

// A passage is an exchange's way to its upstream, as ReverseProxy needs it. It sees each
// answer before anything of it is sent.
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
	if answer.StatusCode < 100 { // which net/http reads, and would not write
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

// begin has the decision about x taken again while the body of the answer is under way. One
// that is here already is that no more: what is left of it to send, at most 4 KiB, is written
// at once, and each part within a stall timeout.
func (x *exchange) trackResponse(answer *http.Response) {
	body := answer.Body // ReverseProxy takes that of a tunnel away
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

// cleanSwitch does to the header of a 101, which ReverseProxy sends past WriteHeader, what
// is done to others: of what concerns the connection only the switch is left.
func (x *exchange) cleanSwitch(h http.Header) {
	dropHops(h)
	x.proxy.headers.removeReserved(h)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{string(config.WebSocket)}
	h[requestID] = []string{x.id}
}

// dropHops removes from h what concerns one connection only (RFC 9110 section 7.6.1), as
// ReverseProxy does, but for answers with 1xx.
func dropHops(h http.Header) {
	for _, line := range h["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(option))
		}
	}
	for _, name := range framingHeaders {
		h.Del(name)
	}
}

// Hijack takes the connection from net/http, for a tunnel. Its buffers serve for the header
// of the answer; what the client sent too early is read from the connection again.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := x.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	t := &tunnel{Conn: conn, early: append([]byte(nil), early...), stall: x.proxy.stall}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.recheck.tunnel = t // the review began with the upstream's 101
	return t, buffers, nil
}

// A tunnel is the client's end of a connection that has left HTTP. It may be quiet for as
// long as the decision holds; but a client that takes nothing gets a stall timeout.
type tunnel struct {
	net.Conn
	early []byte // read before the tunnel was one
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

// CloseWrite tells the client that no more comes, as ReverseProxy does when the upstream
// has said so.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return t.Close()
}

// sever ends the connection without a farewell, for which TLS would wait.
func (t *tunnel) closeNow() {
	if secure, ok := t.Conn.(interface{ NetConn() net.Conn }); ok { // *tls.Conn, or what is around one
		_ = secure.NetConn().Close()
	}
	_ = t.Close()
}

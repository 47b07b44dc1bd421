package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/upstream"
)

// runTunnel switches the client's connection to WebSocket, as the upstream has done, and forwards bytes
// in both directions until both have ended, or until an error or the end of ctx.
func (x *exchange) runTunnel(ctx context.Context, answer *upstream.Response) {
	up := answer.Tunnel
	defer func() { _ = up.Close() }()
	defer context.AfterFunc(ctx, func() { _ = up.Close() })()
	client, err := x.conn.hijack()
	if err != nil {
		x.abort(err)
	}
	defer func() { _ = client.Close() }()
	x.response.status = http.StatusSwitchingProtocols
	if err := client.writeSwitch(x.responseFields(answer.Fields)); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		relay(up, client)
	}()
	relay(client, up)
	<-done
}

// relay forwards bytes from src to dst until src ends, and then closes this direction of dst. After an
// error it closes both, which also ends the other direction.
func relay(dst, src io.ReadWriteCloser) {
	_, err := io.Copy(dst, src)
	if err == nil {
		err = closeWrite(dst)
	}
	if err != nil {
		_ = dst.Close()
		_ = src.Close()
	}
}

// closeWrite closes the direction to the peer of c. If c cannot close one direction, closeWrite closes both.
func closeWrite(c io.Closer) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// A tunnel is the connection to the client after a switch to WebSocket. It may be idle for as long as
// the request is granted, but each write must end within a stall timeout.
type tunnel struct {
	net.Conn
	early []byte // bytes that the client sent before the 101
	stall time.Duration
	torn  atomic.Bool // a write has failed, or closeNow was called
}

func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(p, t.early)
		t.early = t.early[n:]
		return n, nil
	}
	return t.Conn.Read(p)
}

// Write writes p within one stall timeout. Afterwards there is no deadline, because crypto/tls also writes
// while it reads, in response to a KeyUpdate, and writes nothing more after a write that has failed.
func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.SetWriteDeadline(time.Now().Add(t.stall)); err != nil {
		return 0, err
	}
	n, err := t.Conn.Write(p)
	if err == nil {
		err = t.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		t.torn.Store(true)
	}
	return n, err
}

// CloseWrite closes the direction from the gate to the client.
func (t *tunnel) CloseWrite() error { return closeWrite(t.Conn) }

// Close closes the connection. After a failed write the client gets no close_notify: crypto/tls has counted the
// record that was not sent whole, so the client would report the close_notify as tampered with.
func (t *tunnel) Close() error {
	if secure, ok := t.Conn.(interface{ NetConn() net.Conn }); ok && t.torn.Load() { // a *tls.Conn
		_ = secure.NetConn().Close()
	}
	return t.Conn.Close()
}

// closeNow closes the connection without a close_notify, which could block.
func (t *tunnel) closeNow() {
	t.torn.Store(true)
	_ = t.Close()
}

// writeSwitch sends the header of a 101 response with fields.
func (t *tunnel) writeSwitch(fields []http1.Field) error {
	out := bufio.NewWriter(t)
	_, _ = out.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + string(config.WebSocket) + "\r\n")
	http1.WriteFields(out, fields)
	_, _ = out.WriteString("\r\n")
	return out.Flush()
}

// hijack takes the connection from the server for a tunnel. The tunnel first returns the bytes that the
// client sent before the 101, which the server has in its buffer.
func (c *clientConn) hijack() (*tunnel, error) {
	conn, early, err := c.fields.TakeConn()
	if err != nil {
		return nil, err
	}
	t := &tunnel{Conn: conn, early: early, stall: c.stall}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tunnel = t
	return t, nil
}

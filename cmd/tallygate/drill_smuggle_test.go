package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
)

// smuggle sends requests whose bodies are requests with forged identity headers, to an upstream
// that does not read these bodies.
func (d *drill) smuggle(ctx context.Context) {
	inner := "GET /accounts/" + canary + " HTTP/1.1\r\nHost: api.example.test\r\nTallygate-Partner: northwind\r\n\r\n"
	methods := []string{"GET", "HEAD", "DELETE", "OPTIONS"}
	framings := []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(inner), inner),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(inner), inner),
	}
	d.paced(ctx, 2, 50, func(worker int) {
		n := int(d.sent.Add(1))
		request := fmt.Sprintf("%s /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer %s\r\nConnection: close\r\n%s",
			methods[n/2%len(methods)], d.tokens["sync"], framings[worker])
		dialer := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: d.localAddress(2)}, Config: d.client("borealis", "http/1.1")}
		conn, err := dialer.DialContext(ctx, "tcp", d.addresses[gate.PartnersListener])
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(conn, request)
		_, _ = io.Copy(io.Discard, conn)
	})
	d.smuggleOverHTTP2(inner, methods)
}

// smuggleOverHTTP2 sends each of them as the DATA frames of a stream.
func (d *drill) smuggleOverHTTP2(inner string, methods []string) {
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
	defer cancel()
	c, err := d.hostile(ctx, "borealis")
	if err != nil {
		return
	}
	defer func() { _ = c.conn.Close() }()
	for _, method := range methods {
		d.sent.Add(1)
		stream, err := c.request(false, method, "/accounts/7", d.tokens["sync"])
		if err == nil {
			err = c.frames.WriteData(stream, true, []byte(inner))
		}
		if err != nil {
			return
		}
	}
	time.Sleep(200 * time.Millisecond) // for what is forwarded to arrive
}

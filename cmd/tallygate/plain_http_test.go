package main

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// T-TLS-26: plain HTTP on a TLS port gets an error response, and nothing reaches the upstream.
func TestPlainHTTPOnTLSPort(t *testing.T) {
	r := newReloading(t)
	r.configure()
	r.serve()
	c, err := net.Dial("tcp", r.addresses["partners"])
	r.check(err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nTallygate-Partner: northwind\r\n\r\n")
	r.check(err)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	answer, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(answer), "HTTP/1.0 400 Bad Request\r\n") {
		t.Errorf("the answer is %q", answer)
	}
	if received, n := r.upstream.take(); n != 0 {
		t.Errorf("%d requests reached the upstream: %s", n, received)
	}
	r.check(r.expect(`tallygate_tls_handshakes_total{reason="not_tls",result="failed",version=""}`, 1))
	if lines := r.lines("handshake failed"); len(lines) != 1 || strings.Contains(lines[0]["error"].(string), "northwind") {
		t.Errorf("the log says %v", lines)
	}
	r.check(r.stop())
}

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
)

// breaking is an upstream whose responses break off: at once, after the header, or later.
func breaking(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
		switch r.URL.RawQuery {
		case "chunks":
			_, _ = io.WriteString(conn, "Transfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n")
		case "header": // and then the first chunk
			_, _ = io.WriteString(conn, "Transfer-Encoding: chunked\r\n\r\n")
		case "much": // more than waits until the header is ended
			_, _ = io.WriteString(conn, "X: "+strings.Repeat("x", 5000)+"\r\nTransfer-Encoding: chunked\r\n\r\n")
		case "counted":
			_, _ = io.WriteString(conn, "Content-Length: 9\r\n\r\nfine")
		}
		if r.URL.RawQuery != "header" {
			time.Sleep(20 * time.Millisecond) // the bytes sent before arrive in a read of their own
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A response that the upstream breaks off is never complete for the client, whether net/http or the
// gate's own server serves the connection: it has no last chunk, and no header that is delimited by
// the end of the connection, which lenient clients accept as a header with an empty body.
func TestAnswersThatBreakOff(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure(r.upstream.url(), breaking(t))
	r.serve()
	for name, fields := range map[string]string{"lane": "", "net/http": "Connection: close\r\n"} {
		for _, query := range []string{"chunks", "header", "much", "counted"} {
			conn, err := tls.Dial("tcp", r.addresses[gate.PartnersListener], r.client("northwind", "http/1.1"))
			r.check(err)
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, err = io.WriteString(conn, "GET /accounts/7?"+query+" HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+r.tokens["good"]+"\r\n"+fields+"\r\n")
			r.check(err)
			all, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("%s, %s: %v", name, query, err)
			}
			_ = conn.Close()
			if len(all) > 0 && !bytes.Contains(all, []byte("\r\n\r\n")) {
				t.Errorf("%s, %s: half a header\n%.300q", name, query, all)
			}
			answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), nil)
			if err != nil {
				continue
			}
			if body, err := io.ReadAll(answer.Body); err == nil {
				t.Errorf("%s, %s: an answer as if it were whole\n%.300s%q", name, query, all, body)
			}
			_ = answer.Body.Close()
		}
	}
	if failed, err := r.metric(`tallygate_upstream_errors_total{api="accounts",reason="upstream_reset"}`); err != nil || failed != 8 {
		t.Errorf("%v failures are counted, %v", failed, err)
	}
	r.check(r.stop())
}

// A response is complete even if the upstream pauses for longer than stall_timeout before its last
// bytes.
func TestAnswersThatEndLate(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "fine")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(time.Second)
	}))
	t.Cleanup(upstream.Close)
	r := newReloading(t)
	r.configure(r.upstream.url(), upstream.URL, "stall_timeout: 30s", "stall_timeout: 500ms")
	r.serve()
	for name, fields := range map[string]string{"lane": "", "net/http": "Keep-Alive: x\r\n"} {
		conn, err := tls.Dial("tcp", r.addresses[gate.PartnersListener], r.client("northwind", "http/1.1"))
		r.check(err)
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = io.WriteString(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+r.tokens["good"]+"\r\n"+fields+"\r\n")
		r.check(err)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		r.check(err)
		if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "fine" {
			t.Errorf("%s: %q, %v", name, body, err)
		}
		_ = answer.Body.Close()
		_ = conn.NetConn().Close()
	}
	r.check(r.stop())
}

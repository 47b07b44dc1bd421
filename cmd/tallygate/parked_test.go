package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A parked connection has no trust of its own: after a reload, a partner whose authority
// is no longer trusted is refused on the same connection. Others are served.
func TestParkedConnectionsAfterReload(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	testpki.NewCA("Another Root").Write(r.dir, "another")
	r.configure()
	r.serve()
	type guest struct {
		*tls.Conn
		answers *bufio.Reader
		token   string
	}
	ask := func(g *guest, status int, text string) {
		t.Helper()
		_, err := fmt.Fprintf(g, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer %s\r\n\r\n", r.tokens[g.token])
		r.check(err)
		_ = g.SetReadDeadline(time.Now().Add(patience))
		answer, err := http.ReadResponse(g.answers, nil)
		r.check(err)
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		r.check(err)
		if answer.StatusCode != status || !strings.Contains(string(body), text) {
			t.Errorf("%s gets %s: %s; want %d %s", g.token, answer.Status, body, status, text)
		}
	}
	var guests []*guest
	for certificate, token := range map[string]string{"northwind": "good", "borealis": "sync"} {
		c, err := r.dialFrom("127.0.0.1", certificate, "http/1.1")
		r.check(err)
		defer func() { _ = c.Close() }()
		g := &guest{c, bufio.NewReader(c), token}
		ask(g, http.StatusOK, "")
		guests = append(guests, g)
	}
	r.upstream.forget()
	time.Sleep(httpserver.ParkAfter + time.Second) // the connections are parked by then; if not, the test proves less and still passes
	r.configure("trust: [borealis-ca.pem]", "trust: [another.pem]")
	r.await("ok", 1)
	for _, g := range guests {
		status, text, requests := http.StatusOK, "", 1
		if g.token == "sync" {
			status, text, requests = http.StatusUnauthorized, "untrusted_certificate", 0
		}
		ask(g, status, text)
		if _, n := r.upstream.take(); n != requests {
			t.Errorf("%d requests of %s reached the upstream", n, g.token)
		}
		r.upstream.forget()
	}
	r.check(r.stop())
}

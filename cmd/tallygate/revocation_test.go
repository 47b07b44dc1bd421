package main

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// T-CRL-01: once a new list is loaded, a revoked certificate is refused on new connections, on
// resumed sessions and on open connections.
func TestRevocationCountsEverywhere(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	northwind := r.pairs["northwind-ca"]
	northwind.WriteRevocationList(r.dir, "northwind.crl")
	r.configure("revocation: {}", "revocation: {lists: [northwind.crl], exempt: [borealis-ca.pem]}")
	r.serve()
	type client struct {
		name  string
		visit func() (visit, error)
	}
	var open []client
	for _, c := range []struct {
		name string
		h2   bool
	}{{"an open HTTP/1.1 connection", false}, {"an open HTTP/2 connection", true}} {
		v, _ := r.visitor("northwind", "good", c.h2, 0)
		open = append(open, client{c.name, v})
	}
	resumed := func(maximum uint16) func() (visit, error) {
		v, connections := r.visitor("northwind", "good", false, maximum)
		for range 2 { // the second time there is a ticket
			if _, err := v(); err != nil {
				t.Fatal(err)
			}
			connections.CloseIdleConnections()
		}
		return v
	}
	open = append(open, client{"a resumed session of TLS 1.2", resumed(tls.VersionTLS12)}, client{"a resumed session of TLS 1.3", resumed(tls.VersionTLS13)})
	other, _ := r.visitor("borealis", "sync", true, 0)
	for _, c := range append(open, client{"another's", other}) {
		if v, err := c.visit(); err != nil || v.status != 200 {
			t.Fatalf("%s: %+v, %v", c.name, v, err)
		}
	}
	// The list is there at once, and counts when the gate has read it.
	revoked := time.Now()
	northwind.WriteRevocationList(r.dir, "northwind.crl", testpki.Numbered(2), testpki.Revoking(r.pairs["northwind"]))
	r.await("ok", 1)
	read := time.Now()
	r.upstream.forget()
	fresh, _ := r.visitor("northwind", "good", false, 0)
	for _, c := range append(open, client{"a new connection", fresh}) {
		v, err := c.visit()
		if err != nil || v.status != 401 || !strings.Contains(v.body, "revoked_certificate") {
			t.Errorf("%s: %+v, %v", c.name, v, err)
			continue
		}
		if strings.HasPrefix(c.name, "a resumed") && !v.resumed {
			t.Errorf("%s: not resumed", c.name)
		}
		t.Logf("%s: refused %s after the list was written", c.name, time.Since(revoked).Round(time.Millisecond))
	}
	t.Logf("the list was read %s after it was written", read.Sub(revoked).Round(time.Millisecond))
	if received, n := r.upstream.peek(); n > 0 {
		t.Errorf("%d requests reached the upstream:\n%s", n, received)
	}
	if v, err := other(); err != nil || v.status != 200 {
		t.Errorf("another's connection: %+v, %v", v, err)
	}
	r.check(r.stop())
}

// A WebSocket and an event stream end when their certificate is revoked; other streams go on.
func TestRevocationEndsTunnels(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	northwind := r.pairs["northwind-ca"]
	northwind.WriteRevocationList(r.dir, "northwind.crl")
	r.configure("revocation: {}", "revocation: {lists: [northwind.crl], exempt: [borealis-ca.pem]}",
		r.upstream.url(), endless(t), `path: "/accounts/{id}"}`, `path: "/accounts/{id}", upgrade: [websocket]}`)
	r.serve()
	doomed := map[string]io.Reader{"WebSocket": r.open("northwind", "good", webSocket, 101), "events": r.open("northwind", "good", "", 200)}
	other := r.open("borealis", "sync", webSocket, 101)
	northwind.WriteRevocationList(r.dir, "northwind.crl", testpki.Numbered(2), testpki.Revoking(r.pairs["northwind"]))
	r.await("ok", 1)
	read := time.Now()
	for name, stream := range doomed {
		r.closed(stream)
		t.Logf("%s: ended %s after the list was read", name, time.Since(read).Round(time.Millisecond))
	}
	gatetest.EventuallyEqual(t, "log lines of streams that ended with revoked_certificate", 2, func() int { return r.endings("revoked_certificate") })
	if n := r.endings("granted"); n != 0 {
		t.Errorf("%d others ended", n)
	}
	r.check(r.stop())
	_, _ = io.Copy(io.Discard, other)
}

package main

import (
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// withIssuer returns the edits that add our own issuer to the configuration of the scripts.
func (r *reloading) withIssuer() []string {
	return []string{
		"authorization_servers:\n", "authorization_servers:\n  - {name: ours, issuer: \"https://" + r.issuerAddress + "\", audiences: [https://api.example.test]}\n",
		"admin:", "issuer: {issuer: \"https://" + r.issuerAddress + "\", address: " + r.issuerAddress + ", state: state, audience: https://api.example.test}\nadmin:",
	}
}

// revokeThumbprint revokes a certificate at the issuer whose configuration is in the folder of r.
func (r *reloading) revokeThumbprint(certificate string) {
	r.t.Helper()
	command := exec.Command(binary(r.t), "revoke", "--config", "gate.yaml", "--thumbprint", access.ThumbprintOf(r.pairs[certificate].Cert).String())
	command.Dir = r.dir
	out, err := command.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
}

// A certificate that is revoked at the issuer is refused on each connection, and its idle connections end within about
// a second. Connections of other clients stay.
func TestRevokedThumbprintEndsConnections(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure(r.withIssuer()...)
	r.serve()
	others := make(map[string]func() (visit, error))
	for _, certificate := range []string{"northwind", "borealis"} {
		for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			visit, _ := r.visitor(certificate, map[string]string{"northwind": "good", "borealis": "sync"}[certificate], h2, 0)
			if v, err := visit(); err != nil || v.status != 200 {
				t.Fatalf("%s over %s: %+v, %v, want 200", certificate, name, v, err)
			}
			if certificate == "borealis" {
				others[name] = visit
			}
		}
	}
	const connections = `tallygate_connections_active{listener="partners"}`
	r.check(r.expect(connections, 4))
	r.revokeThumbprint("northwind")
	acknowledged := time.Now()
	r.upstream.forget()
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		visit, _ := r.visitor("northwind", "good", h2, 0)
		if v, err := visit(); err != nil || v.status != 401 || !strings.Contains(v.body, "revoked_certificate") {
			t.Errorf("a new connection over %s: %+v, %v, want 401 revoked_certificate", name, v, err)
		}
	}
	if received, n := r.upstream.peek(); n > 0 {
		t.Errorf("%d requests reached the upstream:\n%s", n, received)
	}
	r.check(r.expect(connections, 2))
	t.Logf("the connections have ended %s after the acknowledgement", time.Since(acknowledged).Round(time.Millisecond))
	for name, visit := range others {
		if v, err := visit(); err != nil || v.status != 200 {
			t.Errorf("another client over %s: %+v, %v, want 200", name, v, err)
		}
	}
	r.check(r.expect(connections, 2)) // the other client has opened no more
	r.check(r.stop())
}

// A WebSocket and an event stream end when their certificate is revoked at the issuer.
func TestRevokedThumbprintEndsStreams(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure(append(r.withIssuer(), r.upstream.url(), endless(t), `path: "/accounts/{id}"}`, `path: "/accounts/{id}", upgrade: [websocket]}`)...)
	r.serve()
	doomed := map[string]io.Reader{"WebSocket": r.open("northwind", "good", webSocket, 101), "events": r.open("northwind", "good", "", 200)}
	r.open("borealis", "sync", webSocket, 101)
	r.revokeThumbprint("northwind")
	acknowledged := time.Now()
	for name, stream := range doomed {
		r.closed(stream)
		t.Logf("%s: ended %s after the acknowledgement", name, time.Since(acknowledged).Round(time.Millisecond))
	}
	gatetest.EventuallyEqual(t, "log lines of streams that ended with revoked_certificate", 2, func() int { return r.endings("revoked_certificate") })
	if n := r.endings("granted"); n != 0 {
		t.Errorf("%d streams of others ended, want 0", n)
	}
}

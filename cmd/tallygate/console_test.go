package main

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// TestConsoleListener fills the connection limit of a real gate's console, sends a request with a foreign
// Host, and tries to change the console's address by a reload. Requests of partners and probes succeed
// meanwhile.
func TestConsoleListener(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	const off, on = `admin: {address: "127.0.0.1:0"}`, `admin: {address: "127.0.0.1:0", console: {address: "127.0.0.1:0"}}`
	r.configure(off, on)
	r.serve()
	address := r.addresses["console"]
	if status, page, err := r.get("console", "/"); err != nil || status != http.StatusOK || !strings.Contains(string(page), "Anchor of partner northwind") {
		t.Fatalf("the overview has status %d, %v:\n%s", status, err, page)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	r.check(err)
	request.Host = "attacker.example:" + address[strings.LastIndexByte(address, ':')+1:]
	answer, err := http.DefaultClient.Do(request)
	r.check(err)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a foreign host gets %d, want 421", answer.StatusCode)
	}

	var held []net.Conn
	for range gate.ConsoleConnections + 10 {
		if c, err := net.DialTimeout("tcp", address, patience); err == nil {
			held = append(held, c)
		}
	}
	gatetest.Eventually(t, "the console refuses connections", func() bool {
		n, err := r.metric(`tallygate_connections_refused_total{limit="connections_per_address",listener="console"}`)
		more, noMore := r.metric(`tallygate_connections_refused_total{limit="connections",listener="console"}`)
		return err == nil && noMore == nil && n+more >= 10
	})
	r.check(r.call([]string{"-cert", "northwind", "-token", "good", "GET", "/accounts/7"}))
	if status, _, err := r.admin("/livez"); err != nil || status != http.StatusOK || r.answer.StatusCode != http.StatusOK {
		t.Errorf("beside a full console /livez has status %d, %v, and a partner gets %d, want 200", status, err, r.answer.StatusCode)
	}
	for _, c := range held {
		_ = c.Close()
	}

	r.configure() // without the console
	r.await("failed", 1)
	gatetest.Eventually(t, "the console says why the reload failed", func() bool {
		status, page, err := r.get("console", "/configuration")
		return err == nil && status == http.StatusOK && strings.Contains(string(page), "admin.console: cannot change while the gate runs")
	})
	r.check(r.stop())

	r.serve()
	if r.addresses["console"] != "" {
		t.Errorf("without the setting the console listens at %s", r.addresses["console"])
	}
	r.check(r.stop())
}

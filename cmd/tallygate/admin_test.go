package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// askAdmin sends the admin listener a request with the Host, or without a Host for "", and returns
// status and body of the response.
func (r *reloading) askAdmin(path, host string) (int, string) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addresses["admin"])
	r.check(err)
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host)
	if host == "" {
		request = fmt.Sprintf("GET %s HTTP/1.0\r\n\r\n", path)
	}
	_, err = io.WriteString(conn, request)
	r.check(err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	r.check(err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	r.check(err)
	return answer.StatusCode, string(body)
}

// T-ADD-17: a web page that points its own name at the gate's address (DNS rebinding) reads nothing
// from the admin listener. Probes and scrapers, which use an address or a name inside a cluster,
// need no configuration. Other names need admin.hosts.
func TestAdminHost(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure()
	r.serve()
	for _, host := range []string{
		"10.1.2.3:9090", "127.0.0.1", "[::1]:9090", "[::1]", "[fe80::1%25eth0]:9090", "localhost:9090", "LOCALHOST", "tallygate:9090",
		"tallygate.prod.svc:9090", "tallygate.prod.svc.cluster.local:9090", "Tallygate.Prod.Svc.Cluster.Local.:9090", "",
	} {
		if status, body := r.askAdmin("/livez", host); status != http.StatusOK {
			t.Errorf("Host %q gets %d %q, want 200", host, status, body)
		}
	}
	for _, host := range []string{
		"rebinding.example", "rebinding.example:9090", "127.0.0.1.rebinding.example:9090", "svc.example", "prod.svc.example:9090",
		"cluster.local.example", "xcluster.local", "127.0.0.1.nip.io", "gate.internal.example", "10.1.2.3.", "1.2.3.4.5",
	} {
		for _, path := range []string{"/metrics", "/livez", "/readyz", "/drained", "/assertion/jwks", "/"} {
			status, body := r.askAdmin(path, host)
			if status != http.StatusMisdirectedRequest || !strings.Contains(body, "admin.hosts") || strings.Contains(body, "tallygate_") {
				t.Errorf("Host %q at %s gets %d %.200q, want 421 and the setting's name", host, path, status, body)
			}
		}
	}
	r.configure(`admin: {address: "127.0.0.1:0"}`, `admin: {address: "127.0.0.1:0", hosts: [gate.internal.example]}`)
	r.await("ok", 1)
	for host, want := range map[string]int{
		"gate.internal.example:9090": 200, "GATE.internal.example.": 200, "other.internal.example": 421, "a.gate.internal.example": 421,
	} {
		if status, _ := r.askAdmin("/metrics", host); status != want {
			t.Errorf("with admin.hosts, Host %q gets %d, want %d", host, status, want)
		}
	}
	r.check(r.stop())
}

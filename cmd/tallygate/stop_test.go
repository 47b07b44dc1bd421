package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/cli"
)

// Connections without any request are not cut-off requests: a stop ends in time and without an
// error, even with a very short drain.timeout.
func TestStopWithSilentConnections(t *testing.T) {
	t.Parallel()
	d := newDrained(t, 0, time.Second)
	silent, err := d.dialFrom("127.0.0.1", "northwind", "http/1.1")
	d.check(err)
	defer func() { _ = silent.Close() }()
	begun, err := d.dialFrom("127.0.0.1", "northwind", "http/1.1")
	d.check(err)
	defer func() { _ = begun.Close() }()
	_, err = io.WriteString(begun, "GET /accounts/7 HTT")
	d.check(err)
	probing, err := net.Dial("tcp", d.addresses["admin"])
	d.check(err)
	defer func() { _ = probing.Close() }()
	d.check(d.expect(`tallygate_connections_active{listener="partners"}`, 2))
	began := time.Now()
	d.signal(syscall.SIGTERM)
	if code := d.ended(); code != cli.ExitOK || time.Since(began) > 5*time.Second {
		t.Errorf("ended with %d after %s\n%s", code, time.Since(began), d.log.Bytes())
	}
}

// A client whose handshake is under way when the gate stops is served to the end of its request.
func TestStopDuringHandshake(t *testing.T) {
	t.Parallel()
	d := newDrained(t, 0, 20*time.Second)
	raw, err := net.Dial("tcp", d.addresses["partners"])
	d.check(err)
	defer func() { _ = raw.Close() }()
	d.check(d.expect(`tallygate_connections_active{listener="partners"}`, 1))
	d.upstream.behave("hang")
	// The handshake waits for the gate to be stopping.
	d.signal(syscall.SIGTERM)
	d.becomes("/readyz", http.StatusServiceUnavailable)
	conn := tls.Client(raw, d.client("northwind", "http/1.1"))
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+d.tokens["good"]+"\r\n\r\n")
	d.check(err)
	time.AfterFunc(time.Second, func() { d.upstream.behave("echo") })
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the request is lost: %v", err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("answered with %s", answer.Status)
	}
	if code := d.ended(); code != cli.ExitOK {
		t.Errorf("ended with %d", code)
	}
}

// T-CFG-08: continuous requests to reload, also during a stop, run one after another and do not
// delay the stop.
func TestStopUnderReloads(t *testing.T) {
	t.Parallel()
	d := newDrained(t, 0, 20*time.Second)
	for range 50 {
		d.signal(syscall.SIGHUP)
		time.Sleep(time.Millisecond)
	}
	d.check(d.call([]string{"-cert", "northwind", "-token", "good", "GET", "/accounts/7"}))
	d.check(d.granted(http.StatusOK))
	d.signal(syscall.SIGTERM)
	for d.process.Process.Signal(syscall.SIGHUP) == nil { // until it has ended
		time.Sleep(time.Millisecond)
	}
	if code := d.ended(); code != cli.ExitOK {
		t.Errorf("ended with %d\n%s", code, d.log.Bytes())
	}
}

// A stop waits for a tunnel, which net/http does not track, like for a request: the tunnel has half
// of drain.timeout, and then its end is logged.
func TestStopWithATunnel(t *testing.T) {
	t.Parallel()
	d := &drained{newReloading(t)}
	d.configure(d.upstream.url(), endless(t), `path: "/accounts/{id}"}`, `path: "/accounts/{id}", upgrade: [websocket]}`,
		"log: {level", "drain: {delay: 0s, timeout: 4s}\nlog: {level")
	d.serve()
	tunnel := d.open("northwind", "good", webSocket, http.StatusSwitchingProtocols)
	d.signal(syscall.SIGTERM)
	if took := d.closed(tunnel); took < time.Second {
		t.Errorf("it is ended after %s", took)
	}
	if code := d.ended(); code != cli.ExitOK || d.endings("stopping") != 1 {
		t.Errorf("ended with %d\n%s", code, d.log.Bytes())
	}
}

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/httpserver"
)

// dialFrom opens a TLS connection from a loopback address.
func (w *testGate) dialFrom(address, certificate string, protocols ...string) (*tls.Conn, error) {
	return w.dialTo("partners", address, certificate, protocols...)
}

func (w *testGate) dialTo(listener, address, certificate string, protocols ...string) (*tls.Conn, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	return tls.DialWithDialer(dialer, "tcp", w.addresses[listener], w.client(certificate, protocols...))
}

// expect waits until a metric has a value.
func (w *testGate) expect(series string, want float64) error {
	var n float64
	var err error
	if gatetest.Within(patience, func() bool {
		n, err = w.metric(series)
		return err == nil && n == want
	}) {
		return nil
	}
	return errors.Join(err, fmt.Errorf("%s = %v, want %v", series, n, want))
}

// T-DOS-02: a connection beyond a limit is closed at once, so that a single address cannot block
// others. Open connections and the admin listener stay.
func TestConnectionLimits(t *testing.T) {
	for _, address := range []string{"127.0.0.2", "127.0.0.3"} {
		l, err := net.Listen("tcp", address+":0")
		if err != nil {
			gatetest.SkipOutsideCI(t, err) // macOS has 127.0.0.1 alone
		}
		_ = l.Close()
	}
	r := newReloading(t)
	r.configure("stall_timeout: 30s", "stall_timeout: 30s, connections: 5, connections_per_address: 3")
	r.serve()

	var open []*tls.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	enter := func(address string, want bool) {
		t.Helper()
		began := time.Now()
		c, err := r.dialFrom(address, "northwind", "http/1.1")
		if err == nil {
			open = append(open, c)
		}
		if (err == nil) != want {
			t.Fatalf("from %s: %v, want to enter: %v", address, err, want)
		}
		if err != nil && time.Since(began) > patience/2 {
			t.Errorf("from %s: refused after %s, want at once", address, time.Since(began))
		}
	}
	refused := func(limit string) float64 {
		t.Helper()
		n, err := r.metric(`tallygate_connections_refused_total{limit="` + limit + `",listener="partners"}`)
		r.check(err)
		return n
	}
	for range 3 {
		enter("127.0.0.1", true)
	}
	for range 10 {
		enter("127.0.0.1", false)
	}
	if n := refused(httpserver.ByAddress); n != 10 {
		t.Errorf("%v connections are refused for their address, want 10", n)
	}
	enter("127.0.0.2", true)
	enter("127.0.0.2", true)
	enter("127.0.0.2", false)
	enter("127.0.0.3", false)
	if n := refused(httpserver.ByTotal); n != 2 {
		t.Errorf("%v connections are refused in total, want 2", n)
	}
	r.check(r.expect(`tallygate_connections_active{listener="partners"}`, 5)) // by a listener that has room

	// Who is in is served, and who leaves makes room.
	_, err := io.WriteString(open[4], "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nConnection: close\r\n\r\n")
	r.check(err)
	answer, err := io.ReadAll(open[4])
	if err != nil || !strings.Contains(string(answer), "401 Unauthorized") {
		t.Errorf("an open connection gets %q, %v", answer, err)
	}
	r.check(r.expect(`tallygate_connections_active{listener="partners"}`, 4))
	enter("127.0.0.3", true)
	if lines := r.lines("connections refused"); len(lines) != 1 || lines[0]["listener"] != "partners" || lines[0]["limit"] != httpserver.ByAddress {
		t.Errorf("the log tells of refusals %d times, want once: %v", len(lines), lines)
	}
	for _, c := range open { // net/http would wait five seconds for their first request
		_ = c.Close()
	}
	r.check(r.stop())
}

// One address cannot block probes at the admin listener.
func TestConnectionLimitsOfAdmin(t *testing.T) {
	if l, err := net.Listen("tcp", "127.0.0.2:0"); err != nil {
		gatetest.SkipOutsideCI(t, err) // macOS has 127.0.0.1 alone
	} else {
		_ = l.Close()
	}
	r := newReloading(t)
	r.configure()
	r.serve()
	neighbour := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: patience}
	for range gate.AdminConnections {
		if c, err := neighbour.Dial("tcp", r.addresses["admin"]); err == nil {
			defer func() { _ = c.Close() }()
		}
	}
	// Some were closed at once; the others stay.
	r.check(r.expect(`tallygate_connections_refused_total{limit="connections_per_address",listener="admin"}`, gate.AdminConnections*3/4))
	if status, _, err := r.admin("/livez"); err != nil || status != http.StatusOK {
		t.Errorf("/livez says %d, %v", status, err)
	}
}

// A process whose memory limit is below its idle memory accepts no partner connection, stays alive
// and answers probes.
func TestGateWithoutMemory(t *testing.T) {
	r := newReloading(t)
	r.configure()
	r.environment = []string{"GOMEMLIMIT=1MiB"}
	r.serve()
	if c, err := r.dialFrom("127.0.0.1", "northwind"); err == nil {
		_ = c.Close()
		t.Error("a connection was let in")
	}
	if n, err := r.metric(`tallygate_connections_refused_total{limit="memory",listener="partners"}`); err != nil || n != 1 {
		t.Errorf("%v connections are refused for want of memory, %v", n, err)
	}
	if status, _, err := r.admin("/livez"); err != nil || status != http.StatusOK {
		t.Errorf("/livez says %d, %v", status, err)
	}
	r.check(r.stop())
}

// Long requests fill the memory limit. Before memory is full, further requests get 503, and the
// gate recovers when the requests end.
func TestRequestsThatFillMemory(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure(`", timeout: 30s}`, `", timeout: 10m, requests: 10000}`)
	r.environment = []string{"GOMEMLIMIT=40MiB"}
	r.serve()
	padding := strings.Repeat("x", 28<<10)
	send := func(transport http.RoundTripper) (int, error) {
		request := accountRequest(t.Context(), r.addresses["partners"], r.tokens["good"])
		request.Header.Set("X-Padding", padding)
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return 0, err
		}
		defer func() { _ = answer.Body.Close() }()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}
	// HTTP/2 connections, open beforehand: new ones are turned away before requests are.
	transports := make([]*http.Transport, 16)
	for i := range transports {
		transports[i] = &http.Transport{TLSClientConfig: r.client("northwind", "h2"), ForceAttemptHTTP2: true}
		defer transports[i].CloseIdleConnections()
		if status, err := send(transports[i]); err != nil || status != http.StatusOK {
			t.Fatalf("with memory to spare: %d, %v", status, err)
		}
	}
	r.upstream.behave("hang")
	const most = 1600 // 1600 * 28 KiB for the headers are 44 MiB, more than the limit of 40 MiB
	var shed, served, failed atomic.Int64
	done := make(chan struct{}, most)
	for i := range most {
		go func() {
			switch status, err := send(transports[i%len(transports)]); {
			case err == nil && status == http.StatusServiceUnavailable:
				shed.Add(1)
			case err == nil && status == http.StatusOK:
				served.Add(1)
			default:
				failed.Add(1)
			}
			done <- struct{}{}
		}()
		time.Sleep(2 * time.Millisecond) // less at once than between two looks at the memory
	}
	gatetest.Eventually(t, "a request is shed", func() bool { return shed.Load() > 0 })
	if _, err := r.dialFrom("127.0.0.1", "northwind"); err == nil {
		t.Error("a new connection was let in meanwhile")
	}
	if status, _, err := r.admin("/readyz"); err != nil || status != http.StatusOK {
		t.Errorf("/readyz says %d, %v", status, err)
	}
	used, _ := r.metric("process_resident_memory_bytes")
	r.upstream.behave("echo")
	for range most {
		<-done
	}
	t.Logf("%d requests shed, %d served; resident memory %.1f MiB", shed.Load(), served.Load(), used/(1<<20))
	if failed.Load() > 0 {
		t.Errorf("%d requests failed", failed.Load())
	}
	gatetest.EventuallyEqual(t, "status after the overload", http.StatusOK, func() int {
		status, _ := send(transports[0])
		return status
	})
	r.check(r.stop())
}

// T-DOS-05, T-DOS-07: headers and queries with very many parts are not parsed, and compressed
// responses are forwarded without decompression.
func TestPassingUntouched(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure("header_bytes: 32KiB", "header_bytes: 1MiB")
	r.serve()
	cookies, query := strings.Repeat("a=b; ", 100_000)+"last=1", strings.Repeat("a&", 100_000)+"last=1"
	good := []string{"-cert", "northwind", "-token", "good"}
	for name, args := range map[string][]string{
		"last=1\r\n":           {"-H", "Cookie: " + cookies, "GET", "/accounts/7"},
		"&last=1 HTTP/1.1\r\n": {"GET", "/accounts/7?" + query},
	} {
		r.check(r.call(append(good, args...)))
		r.check(r.granted(http.StatusOK))
		if received, _ := r.upstream.peek(); !strings.Contains(string(received), name) || len(received) < 200_000 {
			t.Errorf("of %q, %d bytes reach the upstream", name, len(received))
		}
	}
	r.check(r.call(append(good, "GET", "/accounts/7?"+query+"&access_token=a")))
	r.check(r.refused(http.StatusBadRequest, "malformed_request", "invalid_request"))

	r.upstream.behave("gzip")
	r.check(r.call(append(good, "GET", "/accounts/7")))
	r.check(r.granted(http.StatusOK))
	if string(r.body) != "\x1f\x8b as it came" || r.answer.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the answer is %q %v", r.body, r.answer.Header)
	}
	if received, _ := r.upstream.peek(); strings.Contains(string(received), "Accept-Encoding") {
		t.Errorf("the upstream is asked to compress: %s", received)
	}
	r.check(r.stop())
}

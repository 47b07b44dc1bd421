package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
)

// endless is an upstream with endless events and with WebSockets that echo.
func endless(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = control.Flush()
			<-r.Context().Done()
			return
		}
		conn, buffers, err := control.Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, buffers)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// open sends a request and returns the reader of the response's body.
func (r *reloading) open(certificate, token, fields string, status int) io.Reader {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.addresses[gate.PartnersListener], r.client(certificate, "http/1.1"))
	r.check(err)
	r.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	_, err = io.WriteString(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer "+r.tokens[token]+"\r\n"+fields+"\r\n")
	r.check(err)
	received := bufio.NewReader(conn)
	answer, err := http.ReadResponse(received, nil) //nolint:bodyclose // it goes with the connection
	r.check(err)
	if answer.StatusCode != status {
		text, _ := io.ReadAll(answer.Body)
		r.t.Fatalf("answered %s %s", answer.Status, text)
	}
	if status == http.StatusSwitchingProtocols {
		_, err = io.WriteString(conn, "hello")
		r.check(err)
		_, err = io.ReadFull(received, make([]byte, len("hello")))
		r.check(err)
		return received
	}
	_, err = io.ReadFull(answer.Body, make([]byte, len("data: 1\n\n")))
	r.check(err)
	return answer.Body
}

const webSocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n"

// closed waits for the end of a stream.
func (r *reloading) closed(stream io.Reader) time.Duration {
	r.t.Helper()
	began := time.Now()
	rest, err := io.ReadAll(stream)
	if _, tunnel := stream.(*bufio.Reader); len(rest) > 0 || err == nil && !tunnel { // the end of an answer would mean that the answer is whole
		r.t.Errorf("it ends with %q, %v", rest, err)
	}
	return time.Since(began).Round(time.Millisecond)
}

// endings returns the number of log lines with that ended_by.
func (r *reloading) endings(by string) (n int) {
	for _, line := range r.lines("request") {
		if line["terminated_by"] == by && line["reason"] == "granted" {
			n++
		}
	}
	return n
}

// A reload ends only the streams and tunnels of callers that it removes. A stop ends the other
// streams in time. Each end has its log line.
func TestReloadEndsStreams(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	upstream, route := endless(t), []string{`path: "/accounts/{id}"}`, `path: "/accounts/{id}", upgrade: [websocket]}`}
	edits := append([]string{r.upstream.url(), upstream}, route...)
	r.configure(edits...)
	r.serve()
	doomed := []io.Reader{r.open("borealis", "sync", webSocket, 101), r.open("borealis", "sync", "", 200)}
	others := []io.Reader{r.open("northwind", "good", webSocket, 101), r.open("northwind", "good", "", 200)}
	r.configure(append(edits, "- name: borealis\n", "- name: borealis\n      disabled: true\n")...)
	for _, stream := range doomed {
		t.Logf("ended %s after the file changed", r.closed(stream))
	}
	if _, err := r.metric(`tallygate_streams_ended_total{reason="partner_disabled"}`); err != nil {
		t.Error(err)
	}
	r.check(r.process.Process.Signal(syscall.SIGINT)) // without the delay
	for _, stream := range others {
		took := r.closed(stream)
		t.Logf("ended %s after the stop", took)
		if took > 15*time.Second {
			t.Errorf("it took %s", took)
		}
	}
	select {
	case err := <-r.exited:
		r.process = nil
		r.check(err)
	case <-time.After(patience):
		t.Fatal("the gate does not stop")
	}
	if by, stopped := r.endings("partner_disabled"), r.endings("stopping"); by != 2 || stopped != 2 {
		t.Errorf("%d and %d lines\n%s", by, stopped, r.log.Bytes())
	}
}

// A changed file of an upstream takes effect like all other files.
func TestReloadOfUpstreamAnchors(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{r.pairs["gate"].TLS()}}
	server.StartTLS()
	defer server.Close()
	r.pairs["borealis-ca"].Write(r.dir, "upstream-ca")
	r.configure(`upstream: {url: "`+r.upstream.url()+`", timeout: 30s}`, `upstream: {url: "`+server.URL+`", tls: {trust: [upstream-ca.pem]}}`)
	r.serve()
	visit, _ := r.visitor("northwind", "good", false, 0)
	expectVisit(t, visit, 502, "upstream_tls")
	r.replace("upstream-ca.pem", r.pairs["gate"].CertPEM())
	r.await("ok", 1)
	expectVisit(t, visit, 200, "")
	r.replace("upstream-ca.pem", []byte("none"))
	r.await("failed", 1)
	expectVisit(t, visit, 200, "")
	if !strings.Contains(string(r.log.Bytes()), filepath.Join(r.dir, "upstream-ca.pem")) {
		t.Error("the log does not name the file")
	}
	r.check(r.stop())
}

package httpserver

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/mtls"
)

// settingsOf returns the settings of a client with the certificate of p, or without a certificate if p is nil.
func (s *testServer) settingsOf(p *testpki.Pair, protocol string) *tls.Config {
	settings := &tls.Config{ServerName: "gate.test", InsecureSkipVerify: true, NextProtos: []string{protocol}}
	if p != nil {
		settings.Certificates = []tls.Certificate{p.TLS()}
	}
	return settings
}

// dialAs opens a connection for HTTP/1.1.
func (s *testServer) dialAs(t *testing.T, p *testpki.Pair) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", s.address, s.settingsOf(p, "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.NetConn().Close() })
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	return c
}

// An http2Client keeps the connections that it has made.
type http2Client struct {
	http.Client
	conns chan net.Conn
}

func (s *testServer) http2As(t *testing.T, p *testpki.Pair) *http2Client {
	c := &http2Client{conns: make(chan net.Conn, 10)}
	transport := &http.Transport{ForceAttemptHTTP2: true}
	settings := s.settingsOf(p, "h2")
	transport.DialTLS = func(network, address string) (net.Conn, error) { //nolint:staticcheck // shorter
		conn, err := tls.Dial(network, s.address, settings)
		if err == nil {
			c.conns <- conn
		}
		return conn, err
	}
	c.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	return c
}

func (c *http2Client) get(t *testing.T, path string) string {
	t.Helper()
	r, err := c.Get("https://gate.test" + path)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.ProtoMajor != 2 {
		t.Errorf("%s over HTTP/%d: %v", path, r.ProtoMajor, err)
	}
	return string(body)
}

// EndClients ends the idle connections of a client at once and its other connections after their responses. It
// leaves the connections of other clients alone.
func TestEndClients(t *testing.T) {
	ca := testpki.NewCA("Root")
	gone, stays := ca.Leaf("gone"), ca.Leaf("stays")
	began, end := make(chan struct{}, 2), make(chan struct{})
	long := strings.Repeat("fine", 50_000)
	s := newTestServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" || r.RequestURI == "/long" {
			began <- struct{}{}
			<-end
			_, _ = io.WriteString(w, long)
			return
		}
		_, _ = io.WriteString(w, "fine")
	}, func(s *Server) {
		settings := serverSettings()
		settings.ClientAuth = tls.RequestClientCert
		s.TLS = mtls.NewListener(func() *tls.Config { return settings }, nil)
	})
	idle, busy := s.dialAs(t, gone), s.dialAs(t, gone)
	others := map[string]net.Conn{"another": s.dialAs(t, stays), "no": s.dialAs(t, nil)}
	for _, c := range []net.Conn{idle, others["another"], others["no"]} {
		send(t, c, get)
		next(t, bufio.NewReader(c), "fine")
	}
	idle2, busy2, stays2 := s.http2As(t, gone), s.http2As(t, gone), s.http2As(t, stays)
	for _, c := range []*http2Client{idle2, stays2} {
		if got := c.get(t, "/"); got != "fine" {
			t.Fatalf("got %q, want fine", got)
		}
	}
	send(t, busy, "GET /long HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	answered := make(chan string)
	go func() { answered <- busy2.get(t, "/long") }()
	<-began
	<-began
	open := func() (n int) {
		s.multiplexed.Range(func(any, any) bool { n++; return true })
		return n
	}
	gatetest.EventuallyEqual(t, "idle connections over HTTP/1.1", 3, s.idle)
	if n := open(); n != 3 {
		t.Errorf("%d connections over HTTP/2, want 3", n)
	}
	s.EndClients(func(leaf *x509.Certificate) bool { return leaf.Equal(gone.Cert) })
	if n, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection: read %d bytes, %v, want EOF", n, err)
	}
	gatetest.EventuallyEqual(t, "connections over HTTP/2", 2, open)
	close(end)
	in := bufio.NewReader(busy)
	next(t, in, long)
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection of the request ends with %v, want EOF", err)
	}
	if got := <-answered; got != long {
		t.Errorf("got %d bytes over HTTP/2, want the whole response of %d", len(got), len(long))
	}
	gatetest.EventuallyEqual(t, "connections over HTTP/2", 1, open)
	for name, c := range others {
		send(t, c, get)
		if last := next(t, bufio.NewReader(c), "fine"); last {
			t.Errorf("the connection with %s certificate ends, want it to stay", name)
		}
	}
	if stays2.get(t, "/"); len(stays2.conns) != 1 {
		t.Errorf("the other client has made %d connections over HTTP/2, want 1", len(stays2.conns))
	}
}

// The server forgets each connection over HTTP/2 at its end.
func TestHTTP2ConnectionsAreForgotten(t *testing.T) {
	s := newTestServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	for range 3 {
		c := s.http2As(t, nil)
		c.get(t, "/")
		c.CloseIdleConnections()
	}
	gatetest.EventuallyEqual(t, "connections over HTTP/2", 0, func() (n int) {
		s.multiplexed.Range(func(any, any) bool { n++; return true })
		return n
	})
}

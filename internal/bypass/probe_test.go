package bypass

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// listen returns a listener on loopback whose connections are served by serve.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// tlsServer returns the address of an HTTPS server.
func tlsServer(t *testing.T, settings *tls.Config, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	settings.Certificates = []tls.Certificate{testpki.SelfSigned("api", testpki.IP("127.0.0.1")).TLS()}
	server.TLS = settings
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// full returns the address of a listener whose queue of connections is full, so that nothing answers.
func full(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port)).String()
	for range 4 { // the kernel lets one or two connections into the queue
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	gatetest.SkipOutsideCI(t, "this kernel never fills the queue")
	return ""
}

func TestProbe(t *testing.T) {
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "accounts") }
	plain := httptest.NewServer(http.HandlerFunc(ok))
	t.Cleanup(plain.Close)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for _, tt := range []struct {
		name, endpoint string
		want           Result
		detail         string
	}{
		{"closed", gone.Addr().String(), Closed, ""},
		{"filtered", full(t), Filtered, "no answer"},
		{"HTTP", plain.Listener.Addr().String(), HTTP, "HTTP/1.1 200 OK"},
		{"HTTP that closes at a request that is not HTTP", listen(t, func(c net.Conn) {
			request := make([]byte, 4)
			if _, err := io.ReadFull(c, request); err == nil && string(request) == "GET " {
				_, _ = io.WriteString(c, "HTTP/1.0 404 Not\x1bFound\r\n\r\n")
			}
		}), HTTP, "HTTP/1.0 404 NotFound"},
		{"HTTPS", tlsServer(t, &tls.Config{}, ok), TLS, "HTTP/1.1 200 OK"},
		{"HTTPS that requests a certificate and needs none", tlsServer(t, &tls.Config{ClientAuth: tls.RequestClientCert}, ok), TLS, "HTTP/1.1 200 OK"},
		{"TLS 1.3 that demands a certificate", tlsServer(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, ok), Gate, "demands a client certificate"},
		{"TLS 1.2 that demands a certificate", tlsServer(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, ok), Gate, "demands a client certificate"},
		{"TLS that ends the handshake", tlsServer(t, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, io.EOF }}, ok), TLS, "ends the handshake: tls: internal error"},
		{"a greeting", listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n") }), Other, "accepts connections, and speaks neither TLS nor HTTP"},
		{"silence", listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), Other, "accepts connections, and speaks neither TLS nor HTTP"},
		{"a connection that is closed", listen(t, func(net.Conn) {}), Other, "accepts connections and closes them, as a service mesh does for a closed port"},
		{"no address", "127.0.0.1:x", Unknown, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, detail := prober{500 * time.Millisecond}.probe(t.Context(), tt.endpoint)
			if got != tt.want || detail != tt.detail && tt.want != Unknown {
				t.Errorf("probe = %s, %q, want %s, %q", got, detail, tt.want, tt.detail)
			}
		})
	}
}

// An API gets one GET without credentials, and nothing else.
func TestProbeIsHarmless(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		want := http.Header{"User-Agent": {"tallygate-check"}, "Connection": {"close"}}
		if diff := cmp.Diff(want, r.Header); r.Method != http.MethodGet || r.URL.String() != "/" || diff != "" {
			t.Errorf("the API got %s %s, headers (-want +got):\n%s", r.Method, r.URL, diff)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	if got, detail := (prober{timeout}).probe(t.Context(), server.Listener.Addr().String()); got != HTTP || detail != "HTTP/1.1 204 No Content" {
		t.Errorf("probe = %s, %q, want http, HTTP/1.1 204 No Content", got, detail)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("the API got %d requests, want 1", n)
	}
}

// A name stands for all its addresses, and an address without a host for the machine's own.
func TestCheck(t *testing.T) {
	address := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail\r\n") })
	_, port, _ := net.SplitHostPort(address)
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	got, err := prober{500 * time.Millisecond}.check(t.Context(), []string{":" + port, "127.0.0.3:" + port, "no.such.name.invalid:" + port}, own)
	if err != nil {
		t.Fatal(err)
	}
	var results []string
	for _, f := range got {
		results = append(results, strings.Join([]string{f.Address, f.IP, string(f.Result)}, " "))
	}
	want := []string{":" + port + " 127.0.0.1 other", ":" + port + " 127.0.0.2 closed", "127.0.0.3:" + port + " 127.0.0.3 closed", "no.such.name.invalid:" + port + "  unknown"}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if got, err := Check(t.Context(), []string{":" + port}, nil); err != nil || len(got) != 1 || got[0].Result != Unknown {
		t.Errorf("Check of a machine without addresses = %v, %v, want one unknown", got, err)
	}
	for _, malformed := range []string{"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "http://127.0.0.1:80"} {
		if got, err := Check(t.Context(), []string{malformed}, own); err == nil {
			t.Errorf("Check(%q) = %v, want an error", malformed, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := Check(ctx, []string{address}, own); err != nil || got[0].Result != Unknown {
		t.Errorf("Check after an interrupt = %v, %v, want unknown", got, err)
	}
}

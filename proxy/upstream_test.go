package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// serveUpstream serves handler over all protocols of config.UpstreamProtocol and returns its address.
func serveUpstream(t *testing.T, handler http.Handler, settings *tls.Config) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetHTTP2(settings == nil || len(settings.NextProtos) != 1)
	server.Config.Protocols.SetUnencryptedHTTP2(settings == nil)
	if settings != nil {
		server.EnableHTTP2 = len(settings.NextProtos) != 1
		server.TLS = settings
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// get sends one good request to the handler and returns the status and body.
func get(s *harness) (int, string) {
	w := httptest.NewRecorder()
	s.proxy.ServeHTTP(w, s.request())
	return w.Code, w.Body.String()
}

// The gate uses exactly the configured protocol with an upstream.
func TestUpstreamProtocols(t *testing.T) {
	pair := testpki.SelfSigned("upstream", testpki.DNS("upstream.example"), testpki.IP("127.0.0.1"))
	file, _ := pair.Write(t.TempDir(), "upstream")
	trusting := config.UpstreamTLS{Trust: []config.Path{config.Path(file)}}
	told := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto+" "+r.Host) })
	secure := func(protocols ...string) string {
		return "https://" + serveUpstream(t, told, &tls.Config{Certificates: []tls.Certificate{pair.TLS()}, NextProtos: protocols})
	}
	plain := "http://" + serveUpstream(t, told, nil)
	for _, tt := range []struct {
		name, url string
		protocol  config.UpstreamProtocol
		tls       config.UpstreamTLS
		want      string
	}{
		{"HTTP/1.1", plain, config.HTTP1, config.UpstreamTLS{}, "HTTP/1.1 api.example.test"},
		{"HTTP/1.1 over TLS", secure(), config.HTTP1, trusting, "HTTP/1.1 api.example.test"},
		{"h2", secure(), config.H2, trusting, "HTTP/2.0 api.example.test"},
		{"h2c", plain, config.H2C, config.UpstreamTLS{}, "HTTP/2.0 api.example.test"},
		{"h2 where there is none", secure("http/1.1"), config.H2, trusting, "upstream_tls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newHarness(t, tt.url, io.Discard, func(cfg *config.Config) {
				cfg.APIs[0].Upstream.Protocol, cfg.APIs[0].Upstream.TLS = tt.protocol, tt.tls
			})
			if code, text := get(s); !strings.Contains(text, tt.want) {
				t.Errorf("got %d %s", code, text)
			}
		})
	}
}

// protocol: h2 sends nothing to a server without ALPN. net/http would use HTTP/1.1.
func TestH2WithoutALPN(t *testing.T) {
	pair := testpki.SelfSigned("upstream", testpki.IP("127.0.0.1"))
	file, _ := pair.Write(t.TempDir(), "upstream")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair.TLS()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	received := make(chan int, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		n, _ := conn.Read(make([]byte, 100))
		received <- n
		_ = conn.Close()
	}()
	s := newHarness(t, "https://"+l.Addr().String(), io.Discard, func(cfg *config.Config) {
		cfg.APIs[0].Upstream.Protocol = config.H2
		cfg.APIs[0].Upstream.TLS.Trust = []config.Path{config.Path(file)}
	})
	if code, text := get(s); code != http.StatusBadGateway || !strings.Contains(text, `"reason":"upstream_tls"`) {
		t.Errorf("got %d %s", code, text)
	}
	if n := <-received; n > 0 {
		t.Errorf("%d bytes sent to a server without ALPN, want 0", n)
	}
}

func TestUpstreamSocket(t *testing.T) {
	for _, protocol := range []config.UpstreamProtocol{config.HTTP1, config.H2C} {
		dir, err := os.MkdirTemp("", "gate") // t.TempDir may be too long
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		socket := filepath.Join(dir, "api.sock")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Proto+" "+r.Host+r.RequestURI)
		})}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = server.Serve(l) }()
		defer func() { _ = server.Close() }()
		s := newHarness(t, "unix://"+socket, io.Discard, func(cfg *config.Config) { cfg.APIs[0].Upstream.Protocol = protocol })
		if code, text := get(s); code != http.StatusOK || !strings.HasSuffix(text, " api.example.test/accounts/7?a=b") {
			t.Errorf("%s: got %d %s", protocol, code, text)
		}
		_ = server.Close()
		s.lease.Release()
		if code, text := get(s); code != http.StatusBadGateway || !strings.Contains(text, "upstream_unreachable") || strings.Contains(text, socket) {
			t.Errorf("%s, after the socket was closed: got %d %s", protocol, code, text)
		}
	}
}

// T-TLS-23: an upstream with an untrusted certificate gets no request, and an upstream that requires
// client certificates refuses a gate without a trusted one.
func TestUpstreamTLS(t *testing.T) {
	ca, other := testpki.NewCA("Internal Root"), testpki.NewCA("Internal Root")
	name := testpki.DNS("upstream.example")
	gate, stranger := ca.Leaf("gate"), other.Leaf("gate")
	for _, tt := range []struct {
		name           string
		server, client *testpki.Pair
		serverName     config.Host
		mutual         bool
		maximum        uint16
		want           string
	}{
		{"good", ca.Leaf("a", name), nil, "upstream.example", false, 0, "whole"},
		{"both ways", ca.Leaf("a", name), gate, "upstream.example", true, 0, "whole"},
		{"both ways, TLS 1.2", ca.Leaf("a", name), gate, "upstream.example", true, tls.VersionTLS12, "whole"},
		{"the URL's host", ca.Leaf("a", testpki.IP("127.0.0.1")), nil, "", false, 0, "whole"},
		{"wrong authority", other.Leaf("a", name), nil, "upstream.example", false, 0, "upstream_tls"},
		{"self-signed", testpki.SelfSigned("a", name), nil, "upstream.example", false, 0, "upstream_tls"},
		{"wrong name", ca.Leaf("a", testpki.DNS("other.example")), nil, "upstream.example", false, 0, "upstream_tls"},
		{"not the URL's host", ca.Leaf("a", name), nil, "", false, 0, "upstream_tls"},
		{"expired", ca.Leaf("a", name, testpki.Expired()), nil, "upstream.example", false, 0, "upstream_tls"},
		{"for clients only", ca.Leaf("a", name, testpki.Usage(x509.ExtKeyUsageClientAuth)), nil, "upstream.example", false, 0, "upstream_tls"},
		{"TLS 1.1", ca.Leaf("a", name), nil, "upstream.example", false, tls.VersionTLS11, "upstream_tls"},
		{"nothing to show", ca.Leaf("a", name), nil, "upstream.example", true, 0, "upstream_"},
		{"a stranger's to show", ca.Leaf("a", name), stranger, "upstream.example", true, 0, "upstream_"},
	} {
		for _, protocol := range []config.UpstreamProtocol{config.HTTP1, config.H2} {
			t.Run(tt.name+", "+string(protocol), func(t *testing.T) {
				var reached atomic.Int64
				settings := &tls.Config{Certificates: []tls.Certificate{tt.server.TLS()}, MinVersion: tls.VersionTLS10, MaxVersion: tt.maximum}
				if tt.mutual {
					settings.ClientAuth, settings.ClientCAs = tls.RequireAndVerifyClientCert, testpki.Pool(ca)
				}
				address := serveUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					reached.Add(1)
					_, _ = io.WriteString(w, "whole")
				}), settings)
				log := &gatetest.Log{}
				s := newHarness(t, "https://"+address, log, func(cfg *config.Config) {
					anchors, _ := ca.Write(t.TempDir(), "anchors")
					u := &cfg.APIs[0].Upstream
					u.Protocol, u.TLS = protocol, config.UpstreamTLS{Trust: []config.Path{config.Path(anchors)}, ServerName: tt.serverName}
					if tt.client != nil {
						certificate, key := tt.client.Write(t.TempDir(), "gate")
						u.TLS.Certificate = config.KeyPair{Certificate: config.Path(certificate), Key: config.Path(key)}
					}
				})
				code, text := get(s)
				good := tt.want == "whole"
				if good != (code == http.StatusOK) || !good && code != http.StatusBadGateway || !strings.Contains(text, tt.want) || good != (reached.Load() == 1) {
					t.Errorf("got %d %s, %d requests at the upstream\n%s", code, text, reached.Load(), log)
				}
			})
		}
	}
}

// A reload makes a new Upstream if the contents of its files have changed, keeps the Upstream if they
// are the same, and fails if they are invalid.
func TestUpstreamFiles(t *testing.T) {
	ca, pair := testpki.NewCA("Internal Root"), testpki.NewCA("Another Root").Leaf("gate")
	dir := t.TempDir()
	anchors, _ := ca.Write(dir, "anchors")
	certificate, key := pair.Write(dir, "gate")
	edit := func(cfg *config.Config) {
		cfg.APIs[0].Upstream.TLS = config.UpstreamTLS{
			Trust: []config.Path{config.Path(anchors)}, Certificate: config.KeyPair{Certificate: config.Path(certificate), Key: config.Path(key)},
		}
	}
	s := newHarness(t, "https://127.0.0.1:1", io.Discard, edit)
	before := s.proxy.upstreams["accounts"]
	if s.next(t, edit).upstreams["accounts"] != before {
		t.Error("reload with unchanged files made a new Upstream")
	}
	for _, change := range []func(){
		func() { testpki.NewCA("Internal Root").Write(dir, "anchors") },
		func() { pair.Leaf("renewed").Write(dir, "gate") },
	} {
		change()
		after := s.next(t, edit).upstreams["accounts"]
		if after == before {
			t.Error("reload with changed files kept the Upstream")
		}
		before = after
	}
	for name, content := range map[string]string{"anchors.pem": "", "gate.pem": "x", "gate-key.pem": string(ca.KeyPEM())} {
		good, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = New(s.configure(t, edit), s.proxy.checks, Options{Log: s.log, Metrics: s.metrics, Lease: s.pool.Lease()})
		if err == nil || !strings.Contains(err.Error(), `API "accounts"`) || !strings.Contains(err.Error(), dir) {
			t.Errorf("New with invalid %s returned %v, want an error with API and path", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testacme"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/mtls"
)

func TestMain(m *testing.M) {
	// certmagic starts a rate limiter for each account, and never stops it.
	// Its goroutine for a lock file ends up to 5 s after the lock.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).permit"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// An acmeListener is a listener with certificates by ACME.
type acmeListener struct {
	acme     *Manager
	listener net.Listener
	stop     func()
}

func newACMEListener(t *testing.T, settings *config.ACME, roots *x509.CertPool, listener net.Listener, every time.Duration) *acmeListener {
	t.Helper()
	handshakes := mtls.NewHandshakes(prometheus.NewRegistry())
	a := New(slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry(), handshakes.Challenged)
	a.every = every
	a.Configure(settings, roots)
	if err := a.Open(); err != nil {
		t.Fatal(err)
	}
	trust, err := mtls.LoadTrust(&config.Config{}, mtls.Options{})
	if err != nil {
		t.Fatal(err)
	}
	shown := mtls.ServerConfig(func() *mtls.Trust { return trust }, tls.Certificate{}, config.TLS12, config.Handshake, handshakes)
	shown.Certificates, shown.GetCertificate = nil, a.Certificate
	l := mtls.NewListener(func() *tls.Config { return shown }, a.Challenge)
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for server := tls.NewListener(listener, l.Config()); ; {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).HandshakeContext(t.Context())
				_ = conn.Close()
			}()
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		a.Run(ctx, listener.Addr())
	}()
	s := &acmeListener{acme: a, listener: listener, stop: sync.OnceFunc(func() {
		cancel()
		<-ran
		_ = listener.Close()
		<-accepted
	})}
	t.Cleanup(s.stop)
	return s
}

func (s *acmeListener) shown() *x509.Certificate {
	var leaf *x509.Certificate
	conn, err := tls.Dial("tcp", s.listener.Addr().String(), &tls.Config{
		ServerName: "api.example.test", InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf = state.PeerCertificates[0]
			return nil
		},
	})
	if err == nil {
		_ = conn.Close()
	}
	return leaf
}

func acmeOf(directory, storage string) *config.ACME {
	u, err := url.Parse(directory)
	if err != nil {
		panic(err)
	}
	return &config.ACME{
		Domains: []config.Host{"api.example.test"}, Email: "ops@example.test", Directory: &config.URL{URL: *u}, Storage: config.Path(storage),
	}
}

// A certificate is renewed before it expires, and used from the next handshake on. Run returns when its context
// ends. Pebble cannot renew a certificate whose serial number has a zero byte before it in DER, since it compares
// texts: 1 in 256. The test begins again then.
func TestRenewal(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	for range 3 {
		if renewed(t) {
			return
		}
	}
	t.Fatal("Pebble made three serial numbers that it cannot find again")
}

// renewed makes one attempt at [TestRenewal]. It returns false if Pebble cannot renew its own certificate.
func renewed(t *testing.T) bool {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := testacme.New(t, testacme.Options{TLS: listener.Addr().String(), Lifetime: 25 * time.Second})
	server.Start()
	settings := acmeOf(server.Directory, filepath.Join(t.TempDir(), "acme"))
	settings.DirectoryTrust = []config.Path{config.Path(server.Trust)}
	roots, err := LoadDirectoryTrust(settings)
	if err != nil {
		t.Fatal(err)
	}
	s := newACMEListener(t, settings, roots, listener, 2*time.Second) // due when five times that is left
	var first *x509.Certificate
	gatetest.Eventually(t, "a certificate", func() bool { first = s.shown(); return first != nil })
	if err := s.acme.Ready(); err != nil {
		t.Error(err)
	}
	if first.SerialNumber.BitLen()%8 == 0 {
		s.stop()
		server.Stop()
		return false
	}
	gatetest.Eventually(t, "a renewal", func() bool {
		now := s.shown()
		if now == nil {
			t.Fatal("a handshake got no certificate during the renewal, want the old or the new one")
		}
		return !now.Equal(first)
	})
	if time.Now().After(first.NotAfter) {
		t.Error("the certificate was renewed after it expired")
	}
	if n := testutil.ToFloat64(s.acme.attempts.WithLabelValues("api.example.test", "ok")); n < 2 {
		t.Errorf("%v attempts succeeded, want at least 2", n)
	}
	s.stop()
	if s.acme.latest("api.example.test") == nil {
		t.Error("latest returned nil after Run, want the last certificate")
	}
	server.Stop()
	return true
}

// A storage that hangs delays neither another domain nor the stop for long.
func TestACMEStorageThatHangs(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "hangs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // not TempDir's: a waiting goroutine may create a folder meanwhile
		gatetest.Eventually(t, "the folder is removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	settings := acmeOf("https://127.0.0.1:1", filepath.Join(dir, "acme"))
	a := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), nil)
	hang := func(domain string) (reached func() bool) { // a read of the pipe waits for a write
		t.Helper()
		key := certmagic.StorageKeys.SiteCert((&certmagic.ACMEIssuer{CA: settings.Directory.String()}).IssuerKey(), domain)
		path := filepath.Join(string(settings.Storage), key)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{path, strings.TrimSuffix(path, ".crt") + ".key", strings.TrimSuffix(path, ".crt") + ".json"} {
			if err := syscall.Mkfifo(file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return func() bool {
			for _, ext := range []string{".crt", ".key", ".json"} {
				pipe, err := os.OpenFile(strings.TrimSuffix(path, ".crt")+ext, os.O_WRONLY|syscall.O_NONBLOCK, 0)
				if err == nil { // a reader waits, until the end of the test
					t.Cleanup(func() { _ = pipe.Close() })
					return true
				}
			}
			return false
		}
	}
	a.stopTimeout = 200 * time.Millisecond
	first, second := hang("api.example.test"), hang("more.example.test")
	a.Configure(settings, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		a.Run(ctx, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	}()
	gatetest.Eventually(t, "reading", first)
	other := *settings
	other.Domains = []config.Host{"more.example.test"}
	a.Configure(&other, nil)
	gatetest.Eventually(t, "reading of what comes after", second)
	cancel()
	select {
	case <-ran:
	case <-time.After(gatetest.Patience):
		t.Error("Run did not return after its context ended")
	}
	// Remove the files that a waiting goroutine could write.
	if err := errors.Join(os.RemoveAll(string(settings.Storage)), os.WriteFile(string(settings.Storage), nil, 0o600)); err != nil {
		t.Error(err)
	}
}

// stocked returns a Manager with certificates in its cache.
func stocked(t *testing.T, certificates ...*testpki.Pair) *Manager {
	t.Helper()
	a := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), mtls.NewHandshakes(prometheus.NewRegistry()).Challenged)
	settings := acmeOf("https://127.0.0.1:1", t.TempDir())
	settings.Domains = []config.Host{"a.example", "b.example"}
	a.Configure(settings, nil)
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.client.Load(), nil },
		Logger:           zap.NewNop(),
	})
	t.Cleanup(a.cache.Stop)
	client := certmagic.New(a.cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: t.TempDir()}, Logger: zap.NewNop(), OCSP: certmagic.OCSPConfig{DisableStapling: true}})
	a.client.Store(client)
	for _, c := range certificates {
		if _, err := client.CacheUnmanagedTLSCertificate(t.Context(), c.TLS(), nil); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// A client gets the certificate of its SNI, or of the first domain, and no other certificate if that is
// missing.
func TestACMECertificate(t *testing.T) {
	day := func(n int) testpki.Option {
		return testpki.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(0, 0, n))
	}
	first, older, second := testpki.SelfSigned("first", testpki.DNS("a.example"), day(2)), testpki.SelfSigned("older", testpki.DNS("a.example"), day(1)), testpki.SelfSigned("second", testpki.DNS("b.example"), day(1))
	foreign := testpki.SelfSigned("no domain", testpki.DNS("c.example"), day(9))
	for name, c := range map[string]struct {
		has  []*testpki.Pair
		want map[string]string // by name asked for
	}{
		"both": {[]*testpki.Pair{first, older, second, foreign}, map[string]string{
			"a.example": "first", "b.example": "second", "B.Example": "second", "": "first", "c.example": "first", "x.a.example": "first",
		}},
		"the second only": {[]*testpki.Pair{second, foreign}, map[string]string{"a.example": "", "b.example": "second", "": "", "c.example": ""}},
		"none":            {nil, map[string]string{"a.example": "", "b.example": "", "": ""}},
	} {
		a := stocked(t, c.has...)
		for asked, want := range c.want {
			got, err := a.Certificate(&tls.ClientHelloInfo{ServerName: asked})
			if (want == "") != (err != nil) || (want == "") != (got == nil) || got != nil && got.Leaf.Subject.CommonName != want {
				t.Errorf("%s: %q is not shown %q, %v", name, asked, want, err)
			}
		}
	}
	idle := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), nil)
	idle.Configure(acmeOf("https://127.0.0.1:1", ""), nil)
	if _, err := idle.Certificate(&tls.ClientHelloInfo{}); err == nil {
		t.Error("Certificate before Run returned no error, want one")
	}
}

// A Manager is ready once each domain has had a valid certificate, and stays ready when a domain is added.
func TestACMEReady(t *testing.T) {
	a, b, expired := testpki.SelfSigned("a", testpki.DNS("a.example")), testpki.SelfSigned("b", testpki.DNS("b.example")), testpki.SelfSigned("b", testpki.DNS("b.example"), testpki.Expired())
	if (*Manager)(nil).Ready() != nil {
		t.Error("Ready of a nil Manager returned an error, want nil")
	}
	for name, has := range map[string][]*testpki.Pair{"nothing": nil, "one": {a}, "one and one expired": {a, expired}} {
		if err := stocked(t, has...).Ready(); err == nil {
			t.Errorf("%s: Ready returned nil, want an error", name)
		}
	}
	both := stocked(t, a, b)
	if notAfter, found := both.NotAfter(); !found || !notAfter.Equal(a.Cert.NotAfter) && !notAfter.Equal(b.Cert.NotAfter) {
		t.Errorf("they end %s, %t", notAfter, found)
	}
	if notAfter, _ := stocked(t, a, expired).NotAfter(); !notAfter.Equal(expired.Cert.NotAfter) {
		t.Errorf("the first ends %s", notAfter)
	}
	if _, found := stocked(t).NotAfter(); found {
		t.Error("NotAfter without certificates returned found, want false")
	}
	if err := both.Ready(); err != nil {
		t.Error(err)
	}
	more := *both.settings.Load().ACME
	more.Domains = []config.Host{"a.example", "b.example", "c.example"}
	both.Configure(&more, nil)
	if err := both.Ready(); err != nil {
		t.Errorf("with one more: %v", err)
	}
}

// Without a pending challenge, no challenge is answered.
func TestNoChallenge(t *testing.T) {
	a := stocked(t, testpki.SelfSigned("a", testpki.DNS("a.example")))
	for _, protocols := range [][]string{{"acme-tls/1"}, {"acme-tls/1", "h2"}, {"h2"}, nil} {
		if a.Challenge(&tls.ClientHelloInfo{ServerName: "a.example", SupportedProtos: protocols}) != nil {
			t.Errorf("Challenge for protocols %v returned a configuration, want nil", protocols)
		}
	}
	if (*Manager)(nil).Challenge(&tls.ClientHelloInfo{ServerName: "a.example", SupportedProtos: []string{"acme-tls/1"}}) != nil {
		t.Error("Challenge of a nil Manager returned a configuration, want nil")
	}
	if err := a.challenge.VerifyConnection(tls.ConnectionState{NegotiatedProtocol: "http/1.1"}); err == nil {
		t.Error("VerifyConnection accepted http/1.1 without a client certificate, want an error")
	}
	answer := httptest.NewRecorder()
	a.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://a.example/.well-known/acme-challenge/x", nil))
	if answer.Code != http.StatusNotFound {
		t.Errorf("the response has status %d, want 404", answer.Code)
	}
}

func TestRetryDelay(t *testing.T) {
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if got := retryDelay(i, false); got != want*time.Second {
			t.Errorf("retryDelay(%d, false) = %s", i, got)
		}
	}
	for i, want := range []time.Duration{1, 4, 16, 60, 60, 60} {
		if got := retryDelay(i, true); got != want*time.Minute {
			t.Errorf("retryDelay(%d, true) = %s", i, got)
		}
	}
	if retryDelay(1_000_000, false) != time.Minute || retryDelay(1_000_000, true) != time.Hour {
		t.Error("retryDelay after a million failures is not the longest delay")
	}
}

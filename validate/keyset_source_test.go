package validate

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// run starts v and stops it at the end of the test.
func run(t *testing.T, v *Validator) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// eventually waits until check holds: for what a real socket brings about.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for range 1000 {
		if check() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("in 10 s: not %s", what)
}

// An endpoint serves a key set over TLS by a certificate of a private CA. Its
// answer can be replaced.
type endpoint struct {
	*httptest.Server
	calls  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
	anchor string // PEM file
}

func newEndpoint(t *testing.T, answer http.HandlerFunc) *endpoint {
	t.Helper()
	ca := testpki.NewCA("private CA")
	e := &endpoint{}
	e.answer.Store(&answer)
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.calls.Add(1)
		(*e.answer.Load())(w, r)
	}))
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	e.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost", testpki.IP("127.0.0.1")).TLS()}}
	e.StartTLS()
	t.Cleanup(e.Close)
	e.anchor, _ = ca.Write(t.TempDir(), "ca")
	return e
}

func (e *endpoint) serve(answer http.HandlerFunc) { e.answer.Store(&answer) }

// settings makes a server read its key set at e, in the pace of a test.
func (e *endpoint) settings(t *testing.T) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) {
		s.KeySet.URL = parseURL(t, e.URL+"/jwks?secret=canary")
		s.KeySet.Trust = []config.Path{config.Path(e.anchor)}
		s.KeySet.Refresh = 20 * time.Millisecond
		s.KeySet.CoolDown = time.Hour
	}
}

// document answers with a key set.
func document(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json; charset=utf-8")
		_, _ = w.Write(b)
	}
}

// T-JWKS-03, T-JWKS-04: what is no key set replaces none.
func TestBadReadings(t *testing.T) {
	key, evil := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "evil")
	good := document(testpki.KeySet(key))
	elsewhere := newEndpoint(t, document(testpki.KeySet(evil)))
	e := newEndpoint(t, good)
	v := newValidator(t, Options{}, settings(e.settings(t)))
	source := v.servers[0].keys
	if err := source.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	large := testpki.KeySet(evil)
	large = append(large, bytes.Repeat([]byte(" "), maxKeySet)...)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = w.Write(testpki.KeySet(evil))
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"HTML":       document([]byte("<html></html>")),
		"empty":      document(nil),
		"no keys":    document([]byte("{}")),
		"empty set":  document([]byte(`{"keys":[]}`)),
		"truncated":  document(testpki.KeySet(evil)[:50]),
		"over 1 MiB": document(large),
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
					return
				}
			}
		},
		"cut off": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(testpki.KeySet(evil))
		},
		"content type": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write(testpki.KeySet(evil))
		},
		"no content type": func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = w.Write(testpki.KeySet(evil))
		},
		"compressed": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("compression was asked for")
			}
			w.Header().Set("Content-Encoding", "gzip")
			document([]byte("\x1f\x8b"))(w, r)
		},
		"204": status(204), "203": status(203), "401": status(401), "404": status(404), "500": status(500), "503": status(503),
		"redirect to another host": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"redirect to http": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		},
		"redirect to a file": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusPermanentRedirect)
		},
		"redirect to itself": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusMovedPermanently)
		},
		"hang up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			e.serve(answer)
			failed := testutil.ToFloat64(source.metrics.failed)
			calls := e.calls.Load()
			err := source.read(t.Context())
			if err == nil || testutil.ToFloat64(source.metrics.failed) != failed+1 {
				t.Errorf("error %v, %v failures counted", err, testutil.ToFloat64(source.metrics.failed)-failed)
			}
			if n := e.calls.Load() - calls; n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
			if strings.Contains(fmt.Sprint(err), "canary") {
				t.Errorf("the query stands in the error: %v", err)
			}
			expect(t, v, key.Token(bound()), partner, access.Granted)
			expect(t, v, evil.Token(bound()), partner, access.UnknownKey)
		})
	}
	if n := elsewhere.calls.Load(); n != 0 {
		t.Errorf("the redirect was followed: %d calls", n)
	}
	e.serve(good)
	if err := source.read(t.Context()); err != nil {
		t.Error(err)
	}
}

// T-JWKS-01: start while the endpoint is down: not ready, IssuerUnavailable for
// everybody, and all is well once it answers. Then it goes away again, and the
// last good keys serve.
func TestStartWhileDown(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	var log bytes.Buffer
	v := newValidator(t, Options{Log: slog.New(slog.NewJSONHandler(&log, nil))}, settings(e.settings(t)))
	if v.Ready() == nil {
		t.Error("ready before the first reading")
	}
	expect(t, v, key.Token(bound()), partner, access.IssuerUnavailable)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	eventually(t, "called twice", func() bool { return e.calls.Load() >= 2 })
	expect(t, v, key.Token(bound()), partner, access.IssuerUnavailable)
	e.serve(document(testpki.KeySet(key)))
	eventually(t, "ready", func() bool { return v.Ready() == nil })
	expect(t, v, key.Token(bound()), partner, access.Granted)
	e.CloseClientConnections()
	e.Close()
	failures := testutil.ToFloat64(v.servers[0].keys.metrics.failed)
	eventually(t, "failing", func() bool { return testutil.ToFloat64(v.servers[0].keys.metrics.failed) > failures })
	expect(t, v, key.Token(bound()), partner, access.Granted)
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if !strings.Contains(log.String(), `"issuer":"partners"`) || strings.Contains(log.String(), "canary") {
		t.Errorf("log: %s", log.String())
	}
}

// T-INT-10 by analogy: an endpoint whose certificate is of another CA, or for
// another name, tells nothing.
func TestEndpointCertificate(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	foreign, _ := testpki.NewCA("private CA").Write(t.TempDir(), "foreign")
	for name, edit := range map[string]func(*config.AuthorizationServer){
		"another CA of the same name": func(s *config.AuthorizationServer) { s.KeySet.Trust = []config.Path{config.Path(foreign)} },
		"the system's CAs":            func(s *config.AuthorizationServer) { s.KeySet.Trust = nil },
		"another name": func(s *config.AuthorizationServer) {
			s.KeySet.URL = parseURL(t, strings.Replace(e.URL, "127.0.0.1", "localhost", 1))
		},
	} {
		v := newValidator(t, Options{}, settings(e.settings(t), edit))
		if err := v.servers[0].keys.read(t.Context()); err == nil {
			t.Errorf("%s: the key set was taken", name)
		}
	}
	if n := e.calls.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// No proxy of the environment sees a reading.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("NO_PROXY", "")
	e := newEndpoint(t, document(testpki.KeySet(testpki.NewSigner("ES256", "k1"))))
	v := newValidator(t, Options{}, settings(e.settings(t)))
	if v.servers[0].keys.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("a proxy is set")
	}
	if err := v.servers[0].keys.read(t.Context()); err != nil {
		t.Error(err)
	}
}

// T-JWKS-02: one server hangs, the others neither wait nor fail.
func TestSlowServer(t *testing.T) {
	slowKey, key := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k1")
	release := make(chan struct{})
	slow := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	fast := newEndpoint(t, document(testpki.KeySet(key)))
	v := newValidator(t, Options{}, settings(slow.settings(t)),
		settings(fast.settings(t), func(s *config.AuthorizationServer) { s.Name, s.Issuer = "fast", "https://fast.example" }))
	run(t, v)
	eventually(t, "read", func() bool { return fast.calls.Load() > 3 && slow.calls.Load() == 1 })
	start := time.Now()
	expect(t, v, slowKey.Token(bound()), partner, access.IssuerUnavailable)
	expect(t, v, key.Token(bound(M{"iss": "https://fast.example"})), partner, access.Granted)
	if took := time.Since(start); took > time.Second {
		t.Errorf("a request waited %s", took)
	}
	if err := v.Ready(); err == nil || !strings.Contains(err.Error(), "partners") || strings.Contains(err.Error(), "fast") {
		t.Errorf("Ready: %v", err)
	}
	close(release)
}

// T-JWT-05 over a real socket: a flood of made-up keys costs at most one reading
// in a cool-down, and the known key keeps working.
func TestUnknownKeyFlood(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	v := newValidator(t, Options{}, settings(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, v)
	eventually(t, "ready", func() bool { return v.Ready() == nil })
	for i := range 1000 {
		expect(t, v, key.Token(bound(), M{"kid": fmt.Sprint("made up ", i)}), partner, access.UnknownKey)
	}
	eventually(t, "read again", func() bool { return e.calls.Load() == 2 })
	expect(t, v, key.Token(bound()), partner, access.Granted)
	m := v.servers[0].keys.metrics
	if granted, refused := testutil.ToFloat64(m.refreshed), testutil.ToFloat64(m.throttled); granted != 1 || refused != 999 {
		t.Errorf("%v wishes granted, %v not", granted, refused)
	}
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d readings, want the first and one more", n)
	}
}

// Only a kid that no key has is reason to read: what else finds no key would find
// none in the same key set read again.
func TestNoWishForKnownKeys(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	_, fromFile := keyFile(t, testpki.KeySet(key, testpki.NewSigner("ES256", "k2")))
	v := newValidator(t, Options{}, settings(fromFile))
	expect(t, v, key.Token(bound(), M{"alg": "EdDSA"}), partner, access.UnknownKey)
	expect(t, v, key.Token(bound(), M{"kid": nil}), partner, access.UnknownKey)
	expect(t, v, key.Token(bound(), M{"kid": "k2"}), partner, access.BadSignature)
	m := v.servers[0].keys.metrics
	if n := testutil.ToFloat64(m.refreshed) + testutil.ToFloat64(m.throttled); n != 0 {
		t.Errorf("%v wishes for a reading", n)
	}
}

// A body that trickles ends with the time that one reading has.
func TestTricklingBody(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	v := newValidator(t, Options{}, settings(e.settings(t)))
	c := v.servers[0].keys.client
	if c.Timeout != fetchTimeout {
		t.Fatalf("timeout %s", c.Timeout)
	}
	c.Timeout /= 20 // so that the test need not wait
	if err := v.servers[0].keys.read(t.Context()); err == nil {
		t.Error("read to the end")
	}
}

// T-JWT-05, T-JWT-06: the clockwork of asked readings, also while they fail.
func TestCoolDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
		path, fromFile := keyFile(t, testpki.KeySet(key))
		v := newValidator(t, Options{}, settings(fromFile, func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		m := v.servers[0].keys.metrics
		readings := func(want float64) {
			t.Helper()
			synctest.Wait()
			if got := testutil.ToFloat64(m.succeeded) + testutil.ToFloat64(m.failed); got != want {
				t.Fatalf("%v readings, want %v", got, want)
			}
		}
		readings(1) // by New
		unknown := func() {
			t.Helper()
			expect(t, v, key.Token(bound(), M{"kid": "made up"}), partner, access.UnknownKey)
		}
		unknown()
		unknown()
		readings(2)
		write(t, path, testpki.KeySet(key, next))
		time.Sleep(10*time.Second - 1)
		expect(t, v, next.Token(bound()), partner, access.UnknownKey)
		readings(2)
		time.Sleep(time.Nanosecond)
		expect(t, v, next.Token(bound()), partner, access.UnknownKey) // this one asks, and does not wait
		readings(3)
		expect(t, v, next.Token(bound()), partner, access.Granted)

		// A reading that fails starts the cool-down as well.
		write(t, path, []byte("{}"))
		time.Sleep(10 * time.Second)
		unknown()
		readings(4)
		for range 20 {
			unknown()
		}
		readings(4)
		expect(t, v, key.Token(bound()), partner, access.Granted)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// T-JWKS-01, T-JWT-06: readings follow the schedule and pick up a rotation; while
// they fail they come at growing distances, the last good keys serve until
// max_stale, and then every token of the server is refused as undecidable, also
// one that is remembered.
func TestScheduleAndStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
		path, fromFile := keyFile(t, testpki.KeySet(key))
		v := newValidator(t, Options{}, settings(fromFile, func(s *config.AuthorizationServer) { s.KeySet.MaxStale = time.Hour }))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		write(t, path, testpki.KeySet(key, next))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		day := M{"exp": time.Now().Add(24 * time.Hour).Unix()}
		remembered := next.Token(bound(day))
		expect(t, v, remembered, partner, access.Granted)

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		lastGood := v.servers[0].keys.current.Load().read
		time.Sleep(time.Until(lastGood.Add(time.Hour)))
		synctest.Wait()
		expect(t, v, remembered, partner, access.Granted)
		expect(t, v, key.Token(bound(day)), partner, access.Granted)
		if err := v.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		// After the first failure: 1, 2, 4 … 128, 256 s, then every 5 minutes, each up
		// to a tenth less: 9 retries in 8.5 minutes, and 10 to 12 in the rest of 46 to 50.
		if n := testutil.ToFloat64(v.servers[0].keys.metrics.failed); n < 17 || n > 24 {
			t.Errorf("%v failed readings in an hour", n)
		}
		time.Sleep(time.Nanosecond)
		expect(t, v, remembered, partner, access.IssuerUnavailable)
		expect(t, v, key.Token(bound(day)), partner, access.IssuerUnavailable)
		if v.Ready() == nil {
			t.Error("ready with keys out of date")
		}

		write(t, path, testpki.KeySet(next))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		expect(t, v, remembered, partner, access.Granted)
		expect(t, v, key.Token(bound(day)), partner, access.UnknownKey)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The keys of our own issuer never get out of date, and nothing is read for them.
func TestOwnIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := testpki.NewSigner("ES256", "k1")
		v := newValidator(t, ours(key), settings())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		time.Sleep(10 * 365 * 24 * time.Hour)
		expect(t, v, key.Token(bound()), partner, access.Granted)
		expect(t, v, key.Token(bound(), M{"kid": "x"}), partner, access.UnknownKey)
		if err := v.Ready(); err != nil {
			t.Error(err)
		}
		if n := testutil.ToFloat64(v.servers[0].keys.metrics.succeeded); n != 1 {
			t.Errorf("%v readings", n)
		}
		stop()
		<-done
	})
}

// pause keeps to its bounds, however long readings have failed.
func TestPause(t *testing.T) {
	k := &keySource{settings: config.KeySet{Refresh: 5 * time.Minute}}
	for failures, longest := range map[int]time.Duration{
		0: 5 * time.Minute, 1: time.Second, 2: 2 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1 << 30: 5 * time.Minute,
	} {
		for range 100 {
			if got := k.pause(failures); got > longest || got < longest-longest/10 {
				t.Errorf("%d failures: %s, want at most a tenth less than %s", failures, got, longest)
			}
		}
	}
}

// Many requests find a new key set at once: none of them is judged by the old one, and
// no slow reading of an old one takes the place of a newer.
func TestLocalKeySetUnderLoad(t *testing.T) {
	signers := make([]*testpki.Signer, 40)
	sets, tokens := make([][]byte, len(signers)), make([]string, len(signers))
	for i := range signers {
		signers[i] = testpki.NewSigner("ES256", fmt.Sprint("k", i))
		sets[i], tokens[i] = testpki.KeySet(signers[i]), signers[i].Token(bound())
	}
	var version atomic.Uint64
	v := newValidator(t, Options{Local: map[config.Identifier]LocalKeySet{issuer: func() ([]byte, uint64) {
		n := version.Load()
		return sets[n], n
	}}}, settings())
	for n := range signers {
		version.Store(uint64(n))
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() { expect(t, v, tokens[n], partner, access.Granted) })
		}
		group.Wait()
	}
}

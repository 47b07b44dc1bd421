package jwks

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// run starts v; the returned function stops it.
func run(t *testing.T, v *Source) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// ready reports whether v's tokens can be verified now.
func ready(v *Source) bool {
	_, err := v.Usable(time.Now())
	return err == nil
}

// An endpoint serves a key set over TLS with a certificate of a private CA. Its response can be
// replaced.
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

// newPlainEndpoint serves over plain HTTP with a new connection for each request. It is for tests
// with a fake clock, by which no certificate is valid and which stands still while a goroutine
// waits for a connection.
func newPlainEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		e.calls.Add(1)
		(*e.answer.Load())(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

// plain makes a server fetch its key set from e over plain HTTP.
func (e *endpoint) plain(t *testing.T) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) {
		s.KeySet.URL, s.Connection.InsecureLoopbackHTTP = gatetest.URL(t, e.URL), true
	}
}

func (e *endpoint) serve(answer http.HandlerFunc) { e.answer.Store(&answer) }

// settings makes a server fetch its key set from e, with short intervals.
func (e *endpoint) settings(t *testing.T) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) {
		s.KeySet.URL = gatetest.URL(t, e.URL+"/jwks?secret=canary")
		s.Connection.Trust = []config.Path{config.Path(e.anchor)}
		s.KeySet.Refresh = 20 * time.Millisecond
		s.KeySet.CoolDown = time.Hour
	}
}

// document responds with a key set.
func document(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json; charset=utf-8")
		_, _ = w.Write(b)
	}
}

// T-JWKS-03, T-JWKS-04: an invalid response replaces no key set.
func TestInvalidKeySets(t *testing.T) {
	key, evil := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "evil")
	good := document(testpki.KeySet(key))
	elsewhere := newEndpoint(t, document(testpki.KeySet(evil)))
	e := newEndpoint(t, good)
	source := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t)))
	v := source
	if err := source.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	pair := testpki.SelfSigned("evil")
	certified := &testpki.Signer{KeyID: "evil", Algorithm: "ES256", Key: pair.Key}
	chained := base64.StdEncoding.EncodeToString(pair.Cert.Raw)
	large := testpki.KeySet(evil)
	large = append(large, bytes.Repeat([]byte(" "), authserver.MaxKeySet)...)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = w.Write(testpki.KeySet(evil))
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"HTML":      document([]byte("<html></html>")),
		"empty":     document(nil),
		"no keys":   document([]byte("{}")),
		"empty set": document([]byte(`{"keys":[]}`)),
		"truncated": document(testpki.KeySet(evil)[:50]),
		"too large": document(large),
		// T-DOS-08: beside good keys, so that nothing else is invalid.
		"nested 100,000 deep": document(append([]byte(`{"x":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+","), testpki.KeySet(evil)[1:]...)),
		"too many values":     document(append([]byte(`{"x":[1`+strings.Repeat(",1", jsonlimit.Values)+"],"), testpki.KeySet(evil)[1:]...)),
		"too many keys":       document(testpki.KeySet(slices.Repeat([]*testpki.Signer{evil}, maxKeys+1)...)),
		"a chain too long":    document(gatetest.JSON(M{"keys": []M{certified.JWK(M{"x5c": slices.Repeat([]string{chained}, maxChain+1)})}})),
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
		"compressed": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("the request has Accept-Encoding, want none")
			}
			w.Header().Set("Content-Encoding", "gzip")
			document(testpki.KeySet(evil))(w, r) // with a good body
		},
		"204": status(204), "203": status(203), "401": status(401), "404": status(404), "500": status(500), "503": status(503),
		"redirect to another host": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"redirect to http": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		},
		"redirect to a file": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusPermanentRedirect)
		},
		"hang up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			e.serve(answer)
			failed := testutil.ToFloat64(source.metrics.failed)
			calls := e.calls.Load()
			err := source.Refresh(t.Context())
			if err == nil || testutil.ToFloat64(source.metrics.failed) != failed+1 {
				t.Errorf("refresh = %v with %v failures counted, want an error and 1", err, testutil.ToFloat64(source.metrics.failed)-failed)
			}
			// net/http may repeat a request on a connection that was kept open.
			if n := e.calls.Load() - calls; n != 1 && name != "hang up" {
				t.Errorf("%d calls, want 1", n)
			}
			if strings.Contains(fmt.Sprint(err), "canary") {
				t.Errorf("error %v has the query, want it left out", err)
			}
			expect(t, v, key.Token(bound()), access.Granted)
			expect(t, v, evil.Token(bound()), access.UnknownKey)
		})
	}
	if n := elsewhere.calls.Load(); n != 0 {
		t.Errorf("%d requests after a redirect to another origin, want 0", n)
	}
	e.serve(good)
	if err := source.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
}

// A key set may have any content type: object stores and some servers send text/plain or
// application/octet-stream. The error about a document that is not a key set names the content
// type.
func TestKeySetContentTypes(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	for _, contentType := range []string{"application/jwk-set+json", "application/json; charset=utf-8", "text/plain", "text/html", "application/octet-stream", "", ";"} {
		e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = []string{contentType}
			_, _ = w.Write(testpki.KeySet(key))
		})
		s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t)))
		if err := s.Refresh(t.Context()); err != nil {
			t.Errorf("refresh with content type %q = %v, want no error", contentType, err)
			continue
		}
		expect(t, s, key.Token(bound()), access.Granted)
	}
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html></html>"))
	})
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t)))
	if err := s.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), `content type "text/html": not a JSON object`) {
		t.Errorf("refresh with a page = %v, want its content type and fault", err)
	}
}

// T-JWKS-01: while the endpoint is down at the start, the source is not ready and every token is
// IssuerUnavailable. Once the endpoint responds, tokens verify. When it is down again, the last
// good keys are used.
func TestStartWhileDown(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	var log bytes.Buffer
	v := logged(t, nil, gatetest.AuthorizationServer(e.settings(t)), slog.New(slog.NewJSONHandler(&log, nil)))
	if ready(v) {
		t.Error("ready before the first fetch, want not ready")
	}
	expect(t, v, key.Token(bound()), access.IssuerUnavailable)
	stop := run(t, v)
	gatetest.Eventually(t, "called twice", func() bool { return e.calls.Load() >= 2 })
	expect(t, v, key.Token(bound()), access.IssuerUnavailable)
	e.serve(document(testpki.KeySet(key)))
	gatetest.Eventually(t, "ready", func() bool { return ready(v) })
	expect(t, v, key.Token(bound()), access.Granted)
	e.CloseClientConnections()
	e.Close()
	failures := testutil.ToFloat64(v.metrics.failed)
	gatetest.Eventually(t, "failing", func() bool { return testutil.ToFloat64(v.metrics.failed) > failures })
	expect(t, v, key.Token(bound()), access.Granted)
	stop()
	if !strings.Contains(log.String(), `"issuer":"partners"`) || strings.Contains(log.String(), "canary") {
		t.Errorf("unexpected log: %s", log.String())
	}
}

// T-INT-10 by analogy: a key set is not fetched from an endpoint whose certificate has another CA
// or name.
func TestEndpointCertificate(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	foreign, _ := testpki.NewCA("private CA").Write(t.TempDir(), "foreign")
	for name, edit := range map[string]func(*config.AuthorizationServer){
		"another CA of the same name": func(s *config.AuthorizationServer) { s.Connection.Trust = []config.Path{config.Path(foreign)} },
		"the system's CAs":            func(s *config.AuthorizationServer) { s.Connection.Trust = nil },
		"another name": func(s *config.AuthorizationServer) {
			s.KeySet.URL = gatetest.URL(t, strings.Replace(e.URL, "127.0.0.1", "localhost", 1))
		},
	} {
		v := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), edit))
		if err := v.Refresh(t.Context()); err == nil {
			t.Errorf("%s: the key set was accepted, want an error", name)
		}
	}
	if n := e.calls.Load(); n != 0 {
		t.Errorf("%d requests were sent, want 0", n)
	}
}

// T-JWKS-04: redirects are followed within the origin, at most three.
func TestRedirects(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		var left int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &left)
		if left == 0 {
			document(testpki.KeySet(key))(w, r)
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/%d", left-1), http.StatusFound)
	})
	for redirects, read := range map[int]bool{0: true, 1: true, 3: true, 4: false, 20: false} {
		v := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) {
			s.KeySet.URL = gatetest.URL(t, fmt.Sprintf("%s/%d", e.URL, redirects))
		}))
		if err := v.Refresh(t.Context()); (err == nil) != read {
			t.Errorf("refresh with %d redirects = %v", redirects, err)
		}
	}
}

// T-JWKS-02: a server that hangs delays no other server.
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
	stuck, v := newSource(t, nil, gatetest.AuthorizationServer(slow.settings(t))), newSource(t, nil, gatetest.AuthorizationServer(fast.settings(t)))
	run(t, stuck)
	run(t, v)
	gatetest.Eventually(t, "read", func() bool { return fast.calls.Load() > 3 && slow.calls.Load() == 1 })
	start := time.Now()
	expect(t, stuck, slowKey.Token(bound()), access.IssuerUnavailable)
	expect(t, v, key.Token(bound()), access.Granted)
	if took := time.Since(start); took > time.Second {
		t.Errorf("a request waited %s, want no wait", took)
	}
	if ready(stuck) || !ready(v) {
		t.Error("the slow server is ready or the fast server is not, want the opposite")
	}
	close(release)
}

// T-JWT-05 over real sockets: made-up keys cause at most one fetch in a cool-down, and the known
// key verifies.
func TestUnknownKeyFlood(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	v := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, v)
	gatetest.Eventually(t, "ready", func() bool { return ready(v) })
	for i := range 1000 {
		expect(t, v, key.Token(bound(), M{"kid": fmt.Sprint("made up ", i)}), access.UnknownKey)
	}
	gatetest.Eventually(t, "read again", func() bool { return e.calls.Load() == 2 })
	expect(t, v, key.Token(bound()), access.Granted)
	m := v.metrics
	if granted, refused := testutil.ToFloat64(m.refreshed), testutil.ToFloat64(m.throttled); granted != 1 || refused != 999 {
		t.Errorf("%v refreshes granted and %v throttled, want 1 and 999", granted, refused)
	}
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d readings, want the first and one more", n)
	}
}

// Only a kid that no key has causes a refresh. For any other token a new key set would not help.
func TestKnownKeyIDMakesNoRefresh(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(key, testpki.NewSigner("ES256", "k2")))
	v := newSource(t, nil, gatetest.AuthorizationServer(fromFile))
	expect(t, v, key.Token(bound(), M{"alg": "EdDSA"}), access.UnknownKey)
	expect(t, v, testpki.NewSigner("ES256", "k3").Token(bound(), M{"kid": nil}), access.BadSignature)
	expect(t, v, key.Token(bound(), M{"kid": "k2"}), access.BadSignature)
	m := v.metrics
	if n := testutil.ToFloat64(m.refreshed) + testutil.ToFloat64(m.throttled) + testutil.ToFloat64(m.shared); n != 0 {
		t.Errorf("%v refresh requests, want 0", n)
	}
}

// A slow body ends with the timeout of the fetch.
func TestTricklingBody(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	v := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t)))
	if v.timeout != authserver.FetchTimeout {
		t.Fatalf("timeout = %s, want less than the test's", v.timeout)
	}
	v.timeout /= 20 // so that the test is short
	if err := v.Refresh(t.Context()); err == nil {
		t.Error("refresh of a slow body = nil, want a timeout")
	}
}

// T-JWT-05, T-JWT-06: the times of requested refreshes, also while they fail.
func TestCoolDown(t *testing.T) {
	e := newPlainEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
		e.serve(document(testpki.KeySet(key)))
		v := newSource(t, nil, gatetest.AuthorizationServer(e.plain(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
		stop := run(t, v)
		m := v.metrics
		readings := func(want float64) {
			t.Helper()
			synctest.Wait()
			if got := testutil.ToFloat64(m.succeeded) + testutil.ToFloat64(m.failed); got != want {
				t.Fatalf("%v readings, want %v", got, want)
			}
		}
		readings(1)
		unknown := func(want access.Reason) {
			t.Helper()
			expect(t, v, key.Token(bound(), M{"kid": "made up"}), want)
		}
		unknown(access.UnknownKey)
		unknown(access.UnknownKey)
		readings(2)
		e.serve(document(testpki.KeySet(key, next)))
		time.Sleep(10*time.Second - 1)
		expect(t, v, next.Token(bound()), access.UnknownKey)
		readings(2)
		time.Sleep(time.Nanosecond)
		expect(t, v, next.Token(bound()), access.Granted) // the request causes the refresh and waits for it
		readings(3)

		// A failed refresh starts the cool-down as well. Until a refresh succeeds, an unknown key
		// is IssuerUnavailable.
		e.serve(document([]byte("{}")))
		time.Sleep(10 * time.Second)
		unknown(access.IssuerUnavailable)
		readings(4)
		for range 20 {
			unknown(access.IssuerUnavailable)
		}
		readings(4)
		expect(t, v, key.Token(bound()), access.Granted)
		stop()
	})
}

// T-JWKS-01, T-JWT-06: fetches follow the schedule and find a rotated key. After failures they
// back off, the last good keys are used until max_stale, and then every token of the server is
// IssuerUnavailable, also a cached token.
func TestScheduleAndStaleness(t *testing.T) {
	e := newPlainEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
		e.serve(document(testpki.KeySet(key)))
		v := newSource(t, nil, gatetest.AuthorizationServer(e.plain(t), func(s *config.AuthorizationServer) { s.KeySet.MaxStale = time.Hour }))
		stop := run(t, v)
		synctest.Wait()
		e.serve(document(testpki.KeySet(key, next)))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		day := M{"exp": time.Now().Add(24 * time.Hour).Unix()}
		remembered := next.Token(bound(day))
		expect(t, v, remembered, access.Granted)

		e.serve(http.NotFound)
		lastGood := v.current.Load().fetchedAt
		time.Sleep(time.Until(lastGood.Add(time.Hour)))
		synctest.Wait()
		expect(t, v, remembered, access.Granted)
		expect(t, v, key.Token(bound(day)), access.Granted)
		if !ready(v) {
			t.Error("not ready, want ready")
		}
		// Delays after the first failure: 1, 2, 4, 8, 16 s, then 30 s, each up to a tenth less.
		// These are 5 retries in half a minute, and 109 to 122 in the remaining 55 minutes.
		if n := testutil.ToFloat64(v.metrics.failed); n < 100 || n > 130 {
			t.Errorf("%v failed fetches in an hour, want 100 to 130", n)
		}
		time.Sleep(time.Nanosecond)
		expect(t, v, remembered, access.IssuerUnavailable)
		expect(t, v, key.Token(bound(day)), access.IssuerUnavailable)
		if ready(v) {
			t.Error("ready with stale keys, want not ready")
		}

		e.serve(document(testpki.KeySet(next)))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		expect(t, v, remembered, access.Granted)
		expect(t, v, key.Token(bound(day)), access.UnknownKey)
		stop()
	})
}

// Keys of our own issuer, in the configuration and in files never become stale and are read once.
// A changed file is read by the next New.
func TestLocalKeySetsAreReadOnce(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	document := testpki.KeySet(key)
	path, fromFile := gatetest.KeyFile(t, document)
	for name, c := range map[string]struct {
		local LocalKeySet
		edit  func(*config.AuthorizationServer)
	}{
		"ours":            {localKeySet(document), func(*config.AuthorizationServer) {}},
		"in the settings": {nil, func(s *config.AuthorizationServer) { s.KeySet.JWKS = string(document) }},
		"in a file":       {nil, fromFile},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gatetest.WriteFile(t, path, document)
				pool, log := new(reuse.Pool), slog.New(slog.DiscardHandler)
				v := after(t, pool, c.local, gatetest.AuthorizationServer(c.edit), log)
				stop := run(t, v)
				gatetest.WriteFile(t, path, testpki.KeySet(next))
				time.Sleep(10 * 365 * 24 * time.Hour)
				expect(t, v, key.Token(bound()), access.Granted)
				expect(t, v, next.Token(bound()), access.UnknownKey)
				if !ready(v) {
					t.Error("not ready, want ready")
				}
				if n := testutil.ToFloat64(v.metrics.succeeded); n != 1 {
					t.Errorf("%v fetches, want 1", n)
				}
				stop()
				if after(t, pool, c.local, gatetest.AuthorizationServer(c.edit), log) == v {
					t.Error("a changed file was not read by the next New")
				}
			})
		})
	}
}

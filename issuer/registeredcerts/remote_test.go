package registeredcerts_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
)

// An endpoint is a server with a client's jwks_uri, and the clock of its reader.
type endpoint struct {
	*httptest.Server
	keys    config.ClientKeys
	handler atomic.Pointer[http.HandlerFunc]
	calls   atomic.Int64
	elapsed atomic.Int64 // nanoseconds added to the clock
	pool    *reuse.Pool  // the pool of the leases of all Sets; nil: the Sets share nothing
}

func newEndpoint(t testing.TB, handler http.HandlerFunc, edits ...func(*tls.Config)) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.serve(handler)
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.calls.Add(1)
		if !r.Close {
			t.Error("the request keeps its connection alive, want Connection: close")
		}
		(*e.handler.Load())(w, r)
	}))
	authority := testpki.NewCA("client CA")
	e.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Leaf("client.example", testpki.IP("127.0.0.1")).TLS()}}
	for _, edit := range edits {
		edit(e.TLS)
	}
	e.Config.ErrorLog = log.New(io.Discard, "", 0)
	e.StartTLS()
	t.Cleanup(e.Close)
	e.keys = config.ClientKeys{
		JWKSURI: gatetest.URL(t, e.URL+"/jwks?canary"),
		Trust:   []config.Path{file(t, "ca.pem", authority.CertPEM())},
	}
	return e
}

func (e *endpoint) serve(handler http.HandlerFunc) { e.handler.Store(&handler) }

func (e *endpoint) pass(d time.Duration) { e.elapsed.Add(int64(d)) }

// set returns the Set of e's certificates, with e's clock.
func (e *endpoint) set(t testing.TB) *registeredcerts.Set {
	t.Helper()
	return e.logging(t, io.Discard)
}

func (e *endpoint) logging(t testing.TB, to io.Writer) *registeredcerts.Set {
	t.Helper()
	s, err := registeredcerts.New(e.keys, nil, registeredcerts.Options{
		Lease: e.pool.Lease(),
		Log:   slog.New(slog.NewJSONHandler(to, nil)),
		Now:   func() time.Time { return time.Now().Add(time.Duration(e.elapsed.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.DialLoopback()
	return s
}

// document returns a handler that responds with text as a JWK Set.
func document(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = io.WriteString(w, text)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
	}
}

func longLived(name string) *testpki.Pair {
	return testpki.SelfSigned(name, testpki.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)))
}

func (e *endpoint) wantCalls(t testing.TB, want int64) {
	t.Helper()
	if n := e.calls.Load(); n != want {
		t.Errorf("got %d fetches, want %d", n, want)
	}
}

// cannotTell checks that s.Has(p) returns an error.
func cannotTell(t testing.TB, s *registeredcerts.Set, p *testpki.Pair) {
	t.Helper()
	if has, err := s.Has(t.Context(), p.Cert); has || err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("Has returned %t, %v; want an error without the URL's query", has, err)
	}
}

// RFC 8705 section 2.2.2: a client renews its certificate by publishing it at its jwks_uri.
func TestRotation(t *testing.T) {
	first, second, unregistered := longLived("first"), longLived("second"), longLived("unregistered")
	e := newEndpoint(t, document(keySet(first)))
	s := e.set(t)
	e.wantCalls(t, 0)
	expect(t, s, first.Cert, true)
	expect(t, s, first.Cert, true)
	e.wantCalls(t, 1)

	e.serve(document(keySet(first, second)))
	expect(t, s, second.Cert, false) // within minRefreshInterval of the first fetch
	e.wantCalls(t, 1)
	e.pass(10 * time.Second)
	expect(t, s, second.Cert, true)
	expect(t, s, first.Cert, true)
	e.wantCalls(t, 2)
	for range 50 {
		expect(t, s, unregistered.Cert, false)
	}
	e.wantCalls(t, 2)
	e.pass(9 * time.Second)
	expect(t, s, unregistered.Cert, false)
	e.wantCalls(t, 2)
	e.pass(time.Second)
	expect(t, s, unregistered.Cert, false)
	e.wantCalls(t, 3)
}

// A removed certificate is refused within five minutes, also if no unknown certificate causes a
// fetch, and after a time without requests.
func TestRemoval(t *testing.T) {
	first, second := longLived("first"), longLived("second")
	for _, idle := range []time.Duration{5*time.Minute + time.Second, 23 * time.Hour, 48 * time.Hour} {
		for name, left := range map[string]string{"another is left": keySet(second), "none is left": keySet(), "none counts": keySet(jwk(second, M{"x5c": nil}))} {
			t.Run(fmt.Sprint(idle, " ", name), func(t *testing.T) {
				e := newEndpoint(t, document(keySet(first)))
				var log bytes.Buffer
				s := e.logging(t, &log)
				expect(t, s, first.Cert, true)
				e.serve(document(left))
				e.pass(4*time.Minute + 50*time.Second)
				expect(t, s, first.Cert, true)
				e.wantCalls(t, 1)
				e.pass(idle - 4*time.Minute - 50*time.Second)
				expect(t, s, first.Cert, false)
				e.wantCalls(t, 2)
				if logged := strings.Contains(log.String(), "registers no certificate"); logged != (name != "another is left") {
					t.Errorf("the log is %s, want a warning for an empty key set only", &log)
				}
			})
		}
	}
}

// While the jwks_uri is unreachable, the last successful fetch is used for 24 hours and known
// certificates do not wait. After that Has returns an error.
func TestOutage(t *testing.T) {
	own, unregistered := longLived("own"), longLived("unregistered")
	e := newEndpoint(t, document(keySet(own)))
	s := e.set(t)
	expect(t, s, own.Cert, true)
	release := make(chan struct{})
	e.serve(status(http.StatusBadGateway))
	e.pass(6 * time.Minute)
	expect(t, s, own.Cert, true)
	expect(t, s, unregistered.Cert, false)
	e.wantCalls(t, 2)

	e.serve(func(w http.ResponseWriter, r *http.Request) {
		<-release
		status(http.StatusBadGateway)(w, r)
	})
	e.pass(10 * time.Second)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if has, err := s.Has(gone, own.Cert); !has || err != nil {
		t.Errorf("Has without waiting returned %t, %v; want true", has, err)
	}
	gatetest.Eventually(t, "the reading in the background", func() bool { return e.calls.Load() == 3 })
	close(release)
	expect(t, s, unregistered.Cert, false) // when that has ended
	e.wantCalls(t, 3)

	e.serve(status(http.StatusBadGateway))
	e.pass(23*time.Hour + 50*time.Minute)
	expect(t, s, own.Cert, true)
	e.pass(4 * time.Minute)
	cannotTell(t, s, own)
	cannotTell(t, s, unregistered)
	e.serve(document(keySet(own)))
	e.pass(10 * time.Second)
	expect(t, s, own.Cert, true)
	expect(t, s, unregistered.Cert, false)
}

// A reload keeps what was fetched, unless the jwks_uri or its trust anchors have changed.
func TestReload(t *testing.T) {
	own := longLived("own")
	e := newEndpoint(t, document(keySet(own)))
	e.pool = new(reuse.Pool)
	expect(t, e.set(t), own.Cert, true)
	e.serve(status(http.StatusBadGateway))
	succeed := func(edit func(*config.ClientKeys)) *registeredcerts.Set {
		keys := e.keys
		edit(&keys)
		lease := e.pool.Lease()
		s, err := registeredcerts.New(keys, nil, registeredcerts.Options{Log: slog.New(slog.DiscardHandler), Lease: lease})
		if err != nil {
			t.Fatal(err)
		}
		s.DialLoopback()
		lease.Release() // the next edit is compared with the first Set, too
		return s
	}
	same := succeed(func(*config.ClientKeys) {})
	expect(t, same, own.Cert, true)
	cannotTell(t, succeed(func(k *config.ClientKeys) { k.JWKSURI = gatetest.URL(t, e.URL+"/other?canary") }), own)
	cannotTell(t, succeed(func(k *config.ClientKeys) {
		k.Trust = []config.Path{file(t, "ca.pem", testpki.NewCA("client CA").CertPEM())}
	}), own)
}

// After an outage, a removed certificate is accepted for five minutes at most.
func TestRemovalDuringOutage(t *testing.T) {
	first, second := longLived("first"), longLived("second")
	e := newEndpoint(t, document(keySet(first)))
	s := e.set(t)
	expect(t, s, first.Cert, true)
	e.serve(status(http.StatusBadGateway))
	e.pass(6 * time.Minute)
	expect(t, s, first.Cert, true)
	e.serve(document(keySet(second)))
	e.pass(5*time.Minute + time.Second)
	expect(t, s, first.Cert, false)
}

// A jwks_uri that was never fetched is an error.
func TestNeverRead(t *testing.T) {
	own := longLived("own")
	e := newEndpoint(t, status(http.StatusNotFound))
	s := e.set(t)
	cannotTell(t, s, own)
	cannotTell(t, s, own)
	e.wantCalls(t, 1)
	e.serve(document(keySet(own)))
	cannotTell(t, s, own)
	e.pass(10 * time.Second)
	expect(t, s, own.Cert, true)
	e.wantCalls(t, 2)
}

// Certificates in the configuration are accepted without the jwks_uri.
func TestListedBesideURI(t *testing.T) {
	own := longLived("own")
	e := newEndpoint(t, status(http.StatusNotFound))
	e.keys.JWKS = keySet(own)
	expect(t, e.set(t), own.Cert, true)
	e.wantCalls(t, 0)
}

// Concurrent callers share one fetch, and a caller that leaves does not stop it.
func TestSharedReading(t *testing.T) {
	own := longLived("own")
	release := make(chan struct{})
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		document(keySet(own))(w, r)
	})
	s := e.set(t)
	gone, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := s.Has(gone, own.Cert)
		left <- err
	}()
	gatetest.Eventually(t, "the reading", func() bool { return e.calls.Load() == 1 })
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { expect(t, s, own.Cert, true) })
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("Has of the cancelled caller returned %v, want its cause", err)
	}
	close(release)
	all.Wait()
	e.wantCalls(t, 1)
}

// A server that accepts a connection and sends nothing is abandoned after five seconds.
func TestTimeout(t *testing.T) {
	own := longLived("own")
	synctest.Test(t, func(t *testing.T) {
		keys := config.ClientKeys{JWKSURI: gatetest.URL(t, "https://client.example/jwks")}
		s, err := registeredcerts.New(keys, nil, registeredcerts.Options{Log: silent.Log, Lease: new(reuse.Pool).Lease(), Now: func() time.Time { return own.Cert.NotBefore }})
		if err != nil {
			t.Fatal(err)
		}
		silence := make(chan net.Conn, 1)
		s.DialBy(func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			silence <- far
			return near, nil
		})
		start := time.Now()
		has, err := s.Has(t.Context(), own.Cert)
		var late net.Error // the fetch and its TLS handshake end at the same instant
		if has || !errors.As(err, &late) || !late.Timeout() || time.Since(start) != 5*time.Second {
			t.Errorf("Has returned %t, %v after %s, want an error after 5 s", has, err, time.Since(start))
		}
		_ = (<-silence).Close()
	})
}

// Only a valid response changes the known certificates, and no redirect is followed.
func TestBadAnswers(t *testing.T) {
	own, evil := longLived("own"), longLived("evil")
	good := document(keySet(own))
	e := newEndpoint(t, good)
	elsewhere := newEndpoint(t, document(keySet(evil)))
	s := e.set(t)
	expect(t, s, own.Cert, true)
	as := func(contentType string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{contentType}
			_, _ = io.WriteString(w, keySet(evil))
		}
	}
	redirect := func(to string, code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, code) }
	}
	withKeys := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, keySet(evil))
		}
	}
	var sent atomic.Int64
	for name, answer := range map[string]http.HandlerFunc{
		"HTML": document("<html></html>"), "empty": document(""), "no keys": document("{}"), "cut short": document(keySet(evil)[:80]),
		"trailing data": document(keySet(evil) + "x"), "two keys members": document(`{"keys":[],` + keySet(evil)[1:]),
		"a private key": document(keySet(evil, jwk(own, M{"d": "AAAA"}))),
		"65537 bytes":   document(keySet(evil) + strings.Repeat(" ", 64<<10+1-len(keySet(evil)))),
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				n, err := w.Write(bytes.Repeat([]byte(" "), 64<<10))
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		},
		"hung up within": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100000")
			document(keySet(evil))(w, r)
		},
		"a large header": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("x", 64<<10))
			document(keySet(evil))(w, r)
		},
		"compressed": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("the request has Accept-Encoding, want none")
			}
			w.Header().Set("Content-Encoding", "gzip")
			document(keySet(evil))(w, r) // the document is not compressed
		},
		"text/html": as("text/html"), "no content type": as(""), "JSON in a comment": as("text/plain; application/json"),
		"201": withKeys(201), "203": withKeys(203), "404 with keys": withKeys(404), "204": status(204), "401": status(401), "404": status(404), "500": status(500), "503": status(503),
		"302": redirect(elsewhere.URL, 302), "307": redirect(elsewhere.URL, 307), "to http": redirect("http://127.0.0.1:1/", 301),
		"to a file": redirect("file:///etc/passwd", 308), "to itself": redirect("/other", 303),
		"hang up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			e.serve(answer)
			e.pass(10 * time.Second)
			calls := e.calls.Load()
			expect(t, s, evil.Cert, false)
			expect(t, s, own.Cert, true)
			e.wantCalls(t, calls+1)
			fresh := e.set(t)
			cannotTell(t, fresh, evil)
			e.wantCalls(t, calls+2)
		})
	}
	elsewhere.wantCalls(t, 0)
	if n := sent.Load(); n > 64<<20 { // more than two sockets buffer
		t.Errorf("%d bytes of an endless response were read, want a bound", n)
	}
	for name, contentType := range map[string]string{"JSON": "application/json", "with parameters": "Application/JSON; charset=utf-8"} {
		e.serve(as(contentType))
		e.pass(10 * time.Second)
		t.Run(name, func(t *testing.T) { expect(t, s, evil.Cert, true) })
	}
}

// A server with a certificate of another authority or for another name gets no request.
func TestServerCertificate(t *testing.T) {
	own := longLived("own")
	e := newEndpoint(t, document(keySet(own)))
	good := e.keys
	for name, keys := range map[string]config.ClientKeys{
		"another authority":        {JWKSURI: good.JWKSURI, Trust: []config.Path{file(t, "ca.pem", testpki.NewCA("client CA").CertPEM())}},
		"the system's authorities": {JWKSURI: good.JWKSURI},
		"another name":             {JWKSURI: gatetest.URL(t, strings.Replace(e.URL, "127.0.0.1", "localhost", 1)), Trust: good.Trust},
	} {
		t.Run(name, func(t *testing.T) {
			e.keys = keys
			cannotTell(t, e.set(t), own)
		})
	}
	e.wantCalls(t, 0)
	old := newEndpoint(t, document(keySet(own)), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	cannotTell(t, old.set(t), own)
	old.wantCalls(t, 0)
}

// The proxy in the environment, which TestMain sets, is not used.
func TestNoProxy(t *testing.T) {
	own := longLived("own")
	e := newEndpoint(t, document(keySet(own)))
	e.keys.JWKSURI = gatetest.URL(t, strings.Replace(e.URL, "127.0.0.1", "proxied.example", 1))
	s := e.set(t)
	var dialled string
	s.DialBy(func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		return nil, errors.New("refused")
	})
	cannotTell(t, s, own)
	if !strings.HasPrefix(dialled, "proxied.example:") {
		t.Errorf("the client dialled %q, want the jwks_uri", dialled)
	}
}

// Each failed fetch is logged once, with its cause and without the query.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	e := newEndpoint(t, status(http.StatusTeapot))
	s := e.logging(t, &log)
	for range 5 {
		cannotTell(t, s, longLived("own"))
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "status 418") || strings.Contains(got, "canary") {
		t.Errorf("the log is %s, want one warning with the cause", got)
	}
}

package jwks

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A server that knows that nothing has changed says so, and the keys are as fresh as if
// they had been sent. Without an ETag, or from another URL, they are sent.
func TestETag(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	body := testpki.KeySet(key)
	var etag, asked atomic.Pointer[string]
	set := func(s string) { etag.Store(&s) }
	set(`"one"`)
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		match := r.Header.Get("If-None-Match")
		asked.Store(&match)
		if match != "" && match == *etag.Load() {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if *etag.Load() != "" {
			w.Header().Set("ETag", *etag.Load())
		}
		document(body)(w, r)
	})
	s := newSource(t, nil, settings(e.settings(t)))
	read := func(want string) {
		t.Helper()
		before := s.Latest()
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := *asked.Load(); got != want {
			t.Errorf("asked with %s, want %s", got, want)
		}
		if before != nil && !s.Latest().fetchedAt.After(before.fetchedAt) {
			t.Error("the keys are no fresher")
		}
		expect(t, s, key.Token(bound()), access.Granted)
	}
	read("")
	read(`"one"`)
	read(`"one"`)
	set(`"two"`)
	read(`"one"`)
	read(`"two"`)
	set("")
	read(`"two"`)
	read("")
	set(`"three"`)
	read("")
	s.settings.URL = parseURL(t, e.URL+"/elsewhere")
	read("")
	// A 304 that nobody asked for says nothing.
	e.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	s.current.Load().etag = ""
	if s.Refresh(t.Context()) == nil {
		t.Error("a 304 without a question was taken")
	}
}

// T-JWKS-06: the server's max-age moves the next reading, from a fifth of refresh to
// refresh.
func TestCacheControl(t *testing.T) {
	var header atomic.Pointer[[]string]
	body := testpki.KeySet(testpki.NewSigner("ES256", "k1"))
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Cache-Control"] = *header.Load()
		document(body)(w, r)
	})
	s := newSource(t, nil, settings(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = 5 * time.Minute }))
	for _, c := range []struct {
		header []string
		want   time.Duration
	}{
		{nil, 5 * time.Minute},
		{[]string{"max-age=120"}, 2 * time.Minute},
		{[]string{"public, Max-Age=120, immutable"}, 2 * time.Minute},
		{[]string{"public", `max-age="120"`}, 2 * time.Minute},
		{[]string{"max-age=0"}, time.Minute},
		{[]string{"no-cache, no-store, max-age=0, must-revalidate"}, time.Minute},
		{[]string{"no-store"}, 5 * time.Minute},
		{[]string{"max-age=31536000"}, 5 * time.Minute},
		{[]string{"max-age=99999999999999999999"}, 5 * time.Minute},
		{[]string{"max-age=-1"}, 5 * time.Minute},
		{[]string{"max-age"}, 5 * time.Minute},
		{[]string{"s-maxage=60"}, 5 * time.Minute},
	} {
		header.Store(&c.header)
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(s.interval.Load()); got != c.want {
			t.Errorf("%q: %s, want %s", c.header, got, c.want)
		}
	}
}

// With no place configured, the server's metadata says where the keys are; they are read
// as soon as that is known, and from elsewhere when it changes.
func TestDiscoveredKeys(t *testing.T) {
	one, two := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, http.NotFound)
	metadata := func(path string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/.well-known/oauth-authorization-server":
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(encode(M{"issuer": e.URL, "jwks_uri": e.URL + path}))
			case "/one":
				document(testpki.KeySet(one))(w, r)
			case "/two":
				document(testpki.KeySet(two))(w, r)
			default:
				http.NotFound(w, r)
			}
		}
	}
	s := newSource(t, nil, settings(e.settings(t), func(s *config.AuthorizationServer) {
		s.Issuer, s.KeySet.URL, s.KeySet.Refresh = config.Identifier(e.URL), nil, time.Hour
	}))
	run(t, s)
	if err := s.Refresh(t.Context()); err == nil || ready(s) {
		t.Errorf("read without metadata: %v", err)
	}
	// Nothing was read, so nothing has failed.
	if n := testutil.ToFloat64(s.metrics.failed); n != 0 {
		t.Errorf("%v readings failed before any was made", n)
	}
	discover := func() {
		t.Helper()
		if err := s.remote.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e.serve(metadata("/one"))
	discover()
	eventually(t, "ready", func() bool { return ready(s) })
	expect(t, s, one.Token(bound()), access.Granted)
	e.serve(metadata("/two"))
	discover()
	eventually(t, "moved", func() bool { return s.Latest().hasKeyID("k2") })
	expect(t, s, one.Token(bound()), access.UnknownKey)

	e.serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(encode(M{"issuer": e.URL}))
	})
	discover()
	if err := s.Refresh(t.Context()); err == nil {
		t.Error("read from nowhere")
	}
	expect(t, s, two.Token(bound()), access.Granted)
}

// Keys without kid verify what names a kid that no key has, by their algorithm; while
// another key has that kid, they do not count. A new one is found as an unknown kid is.
func TestKeysWithoutID(t *testing.T) {
	nameless, named := testpki.NewSigner("ES256", "any"), testpki.NewSigner("ES256", "k1")
	next, evil := testpki.NewSigner("ES256", "fresh"), testpki.NewSigner("ES256", "any")
	e := newEndpoint(t, document(set(nameless.JWK(M{"kid": nil}), named.JWK())))
	s := newSource(t, nil, settings(e.settings(t), func(s *config.AuthorizationServer) {
		s.KeySet.Refresh, s.KeySet.CoolDown = time.Hour, time.Nanosecond
	}))
	run(t, s)
	eventually(t, "ready", func() bool { return ready(s) })
	expect(t, s, nameless.Token(bound()), access.Granted)
	expect(t, s, named.Token(bound()), access.Granted)
	expect(t, s, nameless.Token(bound(), M{"kid": "k1"}), access.BadSignature)
	expect(t, s, evil.Token(bound()), access.BadSignature)
	expect(t, s, nameless.Token(bound(), M{"kid": nil}), access.UnknownKey) // two fit
	expect(t, s, next.Token(bound()), access.BadSignature)
	e.serve(document(set(next.JWK(M{"kid": nil}), named.JWK())))
	expect(t, s, next.Token(bound()), access.Granted)
	expect(t, s, nameless.Token(bound()), access.BadSignature)
}

// A request waits for the reading that its unknown key asked for, but not for long and
// not when its client has gone; what it waits for in vain is no verdict on the token.
func TestUnknownKeyWait(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, settings(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, s)
	eventually(t, "ready", func() bool { return ready(s) })
	release := make(chan struct{})
	e.serve(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		document(testpki.KeySet(key, next))(w, r)
	})
	start := time.Now()
	expect(t, s, next.Token(bound()), access.IssuerUnavailable)
	if took := time.Since(start); took < unknownKeyWait || took > 20*unknownKeyWait {
		t.Errorf("waited %s", took)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	jws, err := Parse(next.Token(bound()))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Verify(gone, jws, MediaTypes("at+jwt"), time.Now()); access.ReasonOf(err) != access.IssuerUnavailable {
		t.Errorf("a client that has gone: %v", err)
	}
	expect(t, s, key.Token(bound()), access.Granted) // nobody else waits
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() { expect(t, s, next.Token(bound()), access.Granted) })
	}
	eventually(t, "waiting", func() bool { return testutil.ToFloat64(s.metrics.shared) >= 50 })
	close(release)
	group.Wait()
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d readings, want 2", n)
	}
}

// A reading that the end of Run breaks off has not failed, and the next Run makes up for it
// at once.
func TestCanceledRefresh(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, settings(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	stop := run(t, s)
	eventually(t, "ready", func() bool { return ready(s) })
	e.serve(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	var waiting sync.WaitGroup
	waiting.Go(func() { expect(t, s, next.Token(bound()), access.IssuerUnavailable) })
	eventually(t, "asked", func() bool { return e.calls.Load() == 2 })
	stop()
	waiting.Wait()
	expect(t, s, next.Token(bound()), access.UnknownKey) // nobody reads, and nothing has failed
	if n := testutil.ToFloat64(s.metrics.failed); n != 0 {
		t.Errorf("%v readings failed", n)
	}
	e.serve(document(testpki.KeySet(key, next)))
	run(t, s)
	eventually(t, "served", func() bool {
		s.requests.mu.Lock()
		defer s.requests.mu.Unlock()
		return s.requests.running
	})
	expect(t, s, next.Token(bound()), access.Granted)
}

// T-JWKS-08: the server rotates its key while requests go on, with old and new tokens.
// None is refused, and the new key costs one reading.
func TestRotationUnderLoad(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, settings(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, s)
	eventually(t, "ready", func() bool { return ready(s) })
	old, fresh := key.Token(bound()), next.Token(bound())
	var rotated atomic.Bool
	var judged atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 250 {
				expect(t, s, old, access.Granted)
				if rotated.Load() {
					expect(t, s, fresh, access.Granted)
					judged.Add(1)
				}
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	e.serve(document(testpki.KeySet(next, key)))
	rotated.Store(true)
	group.Wait()
	if n := e.calls.Load(); n != 2 || judged.Load() == 0 {
		t.Errorf("%d readings for %d tokens of the new key", n, judged.Load())
	}
}

// T-JWT-05, T-JWT-04: 100,000 made-up keys, as fast as they can be sent, cost one reading
// in a cool-down and push nothing out. Good tokens go on beside them and wait for none of
// it: that would take as long as the reading that the first one asked for, which hangs.
func TestFloodOfMadeUpKeys(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, settings(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, s)
	eventually(t, "ready", func() bool { return ready(s) })
	good := key.Token(bound())
	p99 := func() time.Duration {
		took := make([]time.Duration, 300)
		for i := range took {
			start := time.Now()
			expect(t, s, good, access.Granted)
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	quiet := p99()
	release := make(chan struct{})
	e.serve(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		document(testpki.KeySet(key))(w, r)
	})
	start := time.Now()
	var group sync.WaitGroup
	var waiting atomic.Int64
	for i := range 8 {
		group.Go(func() {
			jws, _ := Parse(key.Token(bound(), M{"kid": "made up"}))
			for n := range 12_500 {
				jws.KeyID = fmt.Sprint(i, " ", n)
				_, _, err := s.Verify(t.Context(), jws, MediaTypes("at+jwt"), time.Now())
				reason := access.ReasonOf(err)
				if reason == access.IssuerUnavailable {
					waiting.Add(1)
				} else if reason != access.UnknownKey {
					t.Errorf("a made-up key: %v", err)
					return
				}
			}
		})
	}
	time.AfterFunc(2*unknownKeyWait, func() { close(release) })
	flooded := p99()
	group.Wait()
	t.Logf("100,000 made-up keys in %s, of which %d waited; p99 of good tokens %s quiet, %s flooded",
		time.Since(start).Round(time.Millisecond), waiting.Load(), quiet, flooded)
	if flooded >= unknownKeyWait {
		t.Errorf("good tokens waited %s", flooded)
	}
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d readings, want the first and one more", n)
	}
}

// Names and help pass promlint.
func TestMetricNames(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := NewMetrics()
	m.forServer("partners")
	registry.MustRegister(m)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

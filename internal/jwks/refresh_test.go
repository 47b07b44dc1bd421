package jwks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A response with status 304 renews the age of the key set. Without an ETag, and for another URL,
// the whole key set is fetched.
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
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t)))
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
			t.Error("fetchedAt is unchanged after a 304, want it renewed")
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
	s.settings.URL = gatetest.URL(t, e.URL+"/elsewhere")
	read("")
	// A 304 in response to an unconditional request is an error.
	e.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	s.current.Load().etag = ""
	if s.Refresh(t.Context()) == nil {
		t.Error("refresh with an unsolicited 304 = nil, want an error")
	}
}

// T-JWKS-06: the server's max-age sets the time until the next fetch, from a fifth of refresh to
// refresh.
func TestCacheControl(t *testing.T) {
	var header atomic.Pointer[[]string]
	body := testpki.KeySet(testpki.NewSigner("ES256", "k1"))
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Cache-Control"] = *header.Load()
		document(body)(w, r)
	})
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = 5 * time.Minute }))
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

// Without a configured URL, the key set is fetched from the URL in the metadata, as soon as the
// metadata is known and again when it changes.
func TestDiscoveredKeys(t *testing.T) {
	one, two := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, http.NotFound)
	metadata := func(path string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/.well-known/oauth-authorization-server":
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(gatetest.JSON(M{"issuer": e.URL, "jwks_uri": e.URL + path}))
			case "/one":
				document(testpki.KeySet(one))(w, r)
			case "/two":
				document(testpki.KeySet(two))(w, r)
			default:
				http.NotFound(w, r)
			}
		}
	}
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) {
		s.Issuer, s.KeySet.URL, s.KeySet.Refresh = config.Identifier(e.URL), nil, time.Hour
	}))
	run(t, s)
	if err := s.Refresh(t.Context()); err == nil || ready(s) {
		t.Errorf("Refresh without metadata = %v, want ErrNoMetadata", err)
	}
	// No request was sent, so no fetch has failed.
	if n := testutil.ToFloat64(s.metrics.failed); n != 0 {
		t.Errorf("%v failed fetches before any request, want 0", n)
	}
	discover := func() {
		t.Helper()
		if err := s.remote.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e.serve(metadata("/one"))
	discover()
	gatetest.Eventually(t, "ready", func() bool { return ready(s) })
	expect(t, s, one.Token(bound()), access.Granted)
	e.serve(metadata("/two"))
	discover()
	gatetest.Eventually(t, "moved", func() bool { return s.Latest().hasKeyID("k2") })
	expect(t, s, one.Token(bound()), access.UnknownKey)

	e.serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(gatetest.JSON(M{"issuer": e.URL}))
	})
	discover()
	if err := s.Refresh(t.Context()); err == nil {
		t.Error("Refresh without jwks_uri = nil, want an error")
	}
	expect(t, s, two.Token(bound()), access.Granted)
}

// Keys without a kid verify tokens whose kid no key has, by their algorithm. A key with that kid
// takes precedence. A new key without a kid is found like an unknown kid.
func TestKeysWithoutID(t *testing.T) {
	nameless, named := testpki.NewSigner("ES256", "any"), testpki.NewSigner("ES256", "k1")
	next, evil := testpki.NewSigner("ES256", "fresh"), testpki.NewSigner("ES256", "any")
	e := newEndpoint(t, document(gatetest.KeySet(nameless.JWK(M{"kid": nil}), named.JWK())))
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) {
		s.KeySet.Refresh, s.KeySet.CoolDown = time.Hour, time.Nanosecond
	}))
	run(t, s)
	gatetest.Eventually(t, "ready", func() bool { return ready(s) })
	expect(t, s, nameless.Token(bound()), access.Granted)
	expect(t, s, named.Token(bound()), access.Granted)
	expect(t, s, nameless.Token(bound(), M{"kid": "k1"}), access.BadSignature)
	expect(t, s, evil.Token(bound()), access.BadSignature)
	expect(t, s, nameless.Token(bound(), M{"kid": nil}), access.Granted) // both keys that fit are tried
	expect(t, s, named.Token(bound(), M{"kid": nil}), access.Granted)
	expect(t, s, next.Token(bound()), access.BadSignature)
	e.serve(document(gatetest.KeySet(next.JWK(M{"kid": nil}), named.JWK())))
	expect(t, s, next.Token(bound()), access.Granted)
	expect(t, s, nameless.Token(bound()), access.BadSignature)
}

// A request waits for the refresh that its unknown key caused, up to a limit or until its client
// leaves. Without a result the token is not refused but unavailable.
func TestUnknownKeyWait(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, s)
	gatetest.Eventually(t, "ready", func() bool { return ready(s) })
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
		t.Errorf("Verify waited %s, want about half a second", took)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	jws, err := Parse(next.Token(bound()))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Verify(gone, jws, MediaTypes("at+jwt"), time.Now()); access.ReasonOf(err) != access.IssuerUnavailable {
		t.Errorf("Verify of a canceled request = %v, want issuer_unavailable", err)
	}
	expect(t, s, key.Token(bound()), access.Granted) // no other request waits
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() { expect(t, s, next.Token(bound()), access.Granted) })
	}
	gatetest.Eventually(t, "waiting", func() bool { return testutil.ToFloat64(s.metrics.shared) >= 50 })
	close(release)
	group.Wait()
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d readings, want 2", n)
	}
}

// A fetch that is canceled by the end of Run has not failed, and the next Run fetches at once.
func TestCanceledRefresh(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	stop := run(t, s)
	gatetest.Eventually(t, "ready", func() bool { return ready(s) })
	e.serve(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	var waiting sync.WaitGroup
	waiting.Go(func() { expect(t, s, next.Token(bound()), access.IssuerUnavailable) })
	gatetest.Eventually(t, "asked", func() bool { return e.calls.Load() == 2 })
	stop()
	waiting.Wait()
	expect(t, s, next.Token(bound()), access.UnknownKey) // Run is not running, and nothing has failed
	if n := testutil.ToFloat64(s.metrics.failed); n != 0 {
		t.Errorf("%v failed fetches, want 0", n)
	}
	e.serve(document(testpki.KeySet(key, next)))
	run(t, s)
	gatetest.Eventually(t, "served", func() bool {
		s.requests.mu.Lock()
		defer s.requests.mu.Unlock()
		return s.requests.running
	})
	expect(t, s, next.Token(bound()), access.Granted)
}

// T-JWKS-08: the server rotates its key during requests with old and new tokens. No token is
// refused, and the new key causes one fetch.
func TestRotationUnderLoad(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, s)
	gatetest.Eventually(t, "ready", func() bool { return ready(s) })
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
		t.Errorf("%d fetches for %d tokens of the new key, want 1", n, judged.Load())
	}
}

// A request that read the key set just before another request's refresh replaced it gets the new set, though
// the cool-down allows no refresh.
func TestKeySetRefreshedByAnotherRequest(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, s)
	gatetest.Eventually(t, "ready", func() bool { return ready(s) })
	before, raw := s.Latest(), next.Token(bound())
	e.serve(document(testpki.KeySet(next, key)))
	expect(t, s, raw, access.Granted)
	token, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if got, err := s.refreshForUnknownKey(t.Context(), token, before, time.Now(), refused); err != nil || got != s.Latest() {
		t.Errorf("refreshForUnknownKey = %p, %v, want %p, nil", got, err, s.Latest())
	}
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

// T-JWT-05, T-JWT-04: 100,000 tokens with made-up keys, sent as fast as possible, cause one fetch
// in a cool-down and evict nothing. Good tokens do not wait for the fetch, which hangs.
func TestFloodOfMadeUpKeys(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newEndpoint(t, document(testpki.KeySet(key)))
	s := newSource(t, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }))
	run(t, s)
	gatetest.Eventually(t, "ready", func() bool { return ready(s) })
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
					t.Errorf("token with a made-up key: %v", err)
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
		t.Errorf("good tokens took %s, want less than a fetch", flooded)
	}
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d readings, want the first and one more", n)
	}
}

// The background refresh runs from Start until the last lease that holds the Source is released.
func TestStartUntilRelease(t *testing.T) {
	e := newEndpoint(t, document(testpki.KeySet(testpki.NewSigner("ES256", "k1"))))
	pool, settings := new(reuse.Pool), gatetest.AuthorizationServer(e.settings(t))
	server, err := authserver.New(settings, authserver.Options{
		Log: slog.New(slog.DiscardHandler), Metrics: authserver.NewMetrics(nil), Now: time.Now, Lease: pool.Lease(),
	})
	if err != nil {
		t.Fatal(err)
	}
	open := func() (*Source, *reuse.Lease) {
		o := options(nil)
		o.Remote, o.Lease = server, pool.Lease()
		v, err := New(settings, o)
		if err != nil {
			t.Fatal(err)
		}
		return v, o.Lease
	}
	running := func(v *Source) bool {
		v.requests.mu.Lock()
		defer v.requests.mu.Unlock()
		return v.requests.running
	}
	v, first := open()
	v.Start()
	gatetest.Eventually(t, "a key set after Start", func() bool { return ready(v) })
	same, next := open()
	first.Release()
	same.Start()
	if same != v || !running(v) {
		t.Errorf("after a reload without a change: the same Source %t, running %t, want true, true", same == v, running(v))
	}
	if next.Release(); running(v) {
		t.Error("the refresh runs after the last release, want it stopped")
	}
}

// Names and help pass promlint.
func TestMetricNames(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	NewMetrics(registry).forServer(new(reuse.Pool).Lease(), "partners")
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

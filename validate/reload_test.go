package validate

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// runUntilReady starts v and returns when it is ready.
func runUntilReady(t *testing.T, v *Validator) {
	t.Helper()
	v.Start()
	gatetest.EventuallyEqual(t, "Ready()", nil, v.Ready)
}

// A Validator shares with the previous one what has not changed: fetched keys, cached responses
// and connections. Changed settings take effect with the first request.
func TestReload(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	a := newAuthority(t)
	keys := testpki.KeySet(key)
	fetched := func(s *config.AuthorizationServer) {
		a.introspectedBy(config.BothKinds)(s)
		u := *s.Introspection.Endpoint
		u.Path = "/jwks"
		s.KeySet.URL = &u
	}
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/jwks" {
			a.ServeHTTP(w, r)
			return
		}
		a.mu.Lock()
		down := a.down
		a.mu.Unlock()
		if down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(keys)
	})
	jwt, old := key.Token(bound()), key.Token(bound(), M{"typ": "JWT"})
	a.knows("opaque", activeResponse())
	another, _ := testpki.NewCA("another").Write(t.TempDir(), "another")
	certificate, private := testpki.SelfSigned("gate").Write(t.TempDir(), "gate")
	pair := config.KeyPair{Certificate: config.Path(certificate), Key: config.Path(private)}
	elsewhere := func(s *config.AuthorizationServer) *config.URL {
		u := *s.KeySet.URL
		u.Path = "/elsewhere"
		return &u
	}
	both := func(s *config.AuthorizationServer) { s.Types = []string{"at+jwt", "JWT"} }
	for name, c := range map[string]struct {
		edit                            func(*config.AuthorizationServer)
		jwt, old, opaque                access.Reason // with the server down
		remote, keys, remembers, client bool          // taken over
	}{
		"nothing": {func(*config.AuthorizationServer) {},
			access.Granted, access.Granted, access.Granted, true, true, true, true},
		"leeway": {func(s *config.AuthorizationServer) { s.Leeway = time.Second },
			access.Granted, access.Granted, access.Granted, true, true, true, false},
		"audiences": {func(s *config.AuthorizationServer) { s.Audiences = []string{"https://moved.example"} },
			access.WrongAudience, access.WrongAudience, access.WrongAudience, true, true, true, false},
		"required": {func(s *config.AuthorizationServer) { s.Required = false },
			access.Granted, access.Granted, access.Granted, true, true, true, true},
		"types": {func(s *config.AuthorizationServer) { s.Types = []string{"at+jwt"} },
			access.Granted, access.WrongType, access.Granted, true, true, false, true},
		"profile": {func(s *config.AuthorizationServer) { s.Profile = config.ProfileOkta },
			access.Granted, access.Granted, access.Granted, true, true, false, true},
		"opaque no more": {func(s *config.AuthorizationServer) { s.Tokens, s.Introspection = config.JWTOnly, nil },
			access.Granted, access.Granted, access.MalformedToken, false, false, true, false},
		"algorithms": {func(s *config.AuthorizationServer) { s.Algorithms = []config.Algorithm{config.ES256} },
			access.Granted, access.Granted, access.Granted, true, false, true, true},
		"other algorithms": {func(s *config.AuthorizationServer) { s.Algorithms = []config.Algorithm{config.PS256} },
			access.UnsupportedAlgorithm, access.UnsupportedAlgorithm, access.Granted, true, false, true, true},
		"max_age": {func(s *config.AuthorizationServer) { s.Introspection.Cache.MaxAge = time.Second },
			access.Granted, access.Granted, access.IssuerUnavailable, true, true, true, false},
		"stale_on_error": {func(s *config.AuthorizationServer) { s.Introspection.Cache.StaleOnError = time.Hour },
			access.Granted, access.Granted, access.Granted, true, true, true, false},
		"endpoint": {func(s *config.AuthorizationServer) { s.Introspection.Endpoint = elsewhere(s) },
			access.Granted, access.Granted, access.IssuerUnavailable, true, true, true, false},
		"client_id": {func(s *config.AuthorizationServer) { s.Introspection.ClientID = "another" },
			access.Granted, access.Granted, access.IssuerUnavailable, true, true, true, false},
		"cache": {func(s *config.AuthorizationServer) { s.Cache.Entries = 7 },
			access.Granted, access.Granted, access.Granted, true, true, false, true},
		"refresh": {func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Minute },
			access.Granted, access.Granted, access.Granted, true, false, true, true},
		"longer max_stale": {func(s *config.AuthorizationServer) { s.KeySet.MaxStale *= 2 },
			access.Granted, access.Granted, access.Granted, true, false, true, true},
		"max_stale that is over": {func(s *config.AuthorizationServer) { s.KeySet.MaxStale = 1 },
			access.IssuerUnavailable, access.IssuerUnavailable, access.Granted, true, false, true, true},
		"place of the keys": {func(s *config.AuthorizationServer) { s.KeySet.URL = elsewhere(s) },
			access.IssuerUnavailable, access.IssuerUnavailable, access.Granted, true, false, true, true},
		"name": {named("renamed", issuer),
			access.IssuerUnavailable, access.IssuerUnavailable, access.IssuerUnavailable, false, false, false, false},
		"more trust": {func(s *config.AuthorizationServer) {
			s.Connection.Trust = append(s.Connection.Trust, config.Path(another))
		},
			access.Granted, access.Granted, access.Granted, false, false, true, false},
		"certificate": {func(s *config.AuthorizationServer) { s.Connection.Certificate = pair },
			access.Granted, access.Granted, access.Granted, false, false, true, false},
		"trust": {func(s *config.AuthorizationServer) { s.Connection.Trust = nil },
			access.IssuerUnavailable, access.IssuerUnavailable, access.IssuerUnavailable, false, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			a.fail(false)
			var pool reuse.Pool
			lease := pool.Lease()
			v := newValidator(t, Options{Lease: lease}, gatetest.AuthorizationServer(both, fetched))
			runUntilReady(t, v)
			expect(t, v, jwt, partner, access.Granted)
			expect(t, v, old, partner, access.Granted)
			expect(t, v, "opaque", partner, access.Granted)
			a.fail(true)
			next := newValidator(t, Options{Lease: pool.Lease()}, gatetest.AuthorizationServer(both, fetched, c.edit))
			lease.Release()
			before, after := v.servers[0], next.servers[0]
			for what, kept := range map[string][2]bool{
				"remote": {before.remote == after.remote, c.remote}, "keys": {before.keys == after.keys, c.keys},
				"cache": {before.cache == after.cache, c.remembers}, "client": {before.client == after.client, c.client},
			} {
				if kept[0] != kept[1] {
					t.Errorf("%s: kept %t, want %t", what, kept[0], kept[1])
				}
			}
			expect(t, next, jwt, partner, c.jwt)
			expect(t, next, old, partner, c.old)
			expect(t, next, "opaque", partner, c.opaque)
			expect(t, next, jwt, other, map[bool]access.Reason{true: access.BoundToOther, false: c.jwt}[c.jwt == access.Granted])
		})
	}
}

// T-CFG-09: a new server that is down does not affect tokens of other servers.
func TestReloadAddsServer(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(key))
	a := newAuthority(t)
	a.fail(true)
	var pool reuse.Pool
	v := newValidator(t, Options{Lease: pool.Lease()}, gatetest.AuthorizationServer(fromFile))
	expect(t, v, key.Token(bound()), partner, access.Granted)
	next := newValidator(t, Options{Lease: pool.Lease()}, gatetest.AuthorizationServer(fromFile),
		gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly), named("second", "https://second.example")))
	expect(t, next, key.Token(bound()), partner, access.Granted)
	expect(t, next, "opaque", partner, access.IssuerUnavailable)
	// The server's key set file is broken: New fails and the previous Validator stays.
	broken := gatetest.AuthorizationServer(fromFile)
	gatetest.WriteFile(t, string(broken.KeySet.File), []byte("{}"))
	if _, err := New([]config.AuthorizationServer{broken}, Options{Lease: pool.Lease()}); err == nil {
		t.Error("New with a broken key set file = nil, want an error")
	}
	expect(t, next, key.Token(bound()), partner, access.Granted)
}

// A broken file that would stop a start stops a reload too, also if no setting has changed: the
// secrets, the gate's client certificate, the server's anchors.
func TestReloadWithBrokenFiles(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	certificate, key := testpki.SelfSigned("gate").Write(dir, "gate")
	s := gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly), func(s *config.AuthorizationServer) {
		s.Connection.Certificate = config.KeyPair{Certificate: config.Path(certificate), Key: config.Path(key)}
	})
	var pool reuse.Pool
	v := newValidator(t, Options{Lease: pool.Lease()}, s)
	for _, file := range []string{a.secret, a.anchor, certificate, key} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for what, broken := range map[string]func() error{
			"gone":    func() error { return os.Remove(file) },
			"garbled": func() error { return os.WriteFile(file, []byte("a\nb"), 0o600) },
		} {
			if err := broken(); err != nil {
				t.Fatal(err)
			}
			if _, err := New([]config.AuthorizationServer{s}, Options{Lease: pool.Lease()}); err == nil {
				t.Errorf("New with %s %s = nil, want an error", filepath.Base(file), what)
			}
			gatetest.WriteFile(t, file, content)
		}
	}
	if next := newValidator(t, Options{Lease: pool.Lease()}, s); next.servers[0].client != v.servers[0].client {
		t.Error("nothing has changed and the server is new, want the previous one")
	}
}

// The series of a removed server, and of a server of an abandoned reload, are removed: an alert
// on the age of a key set must not fire for them.
func TestRemovedSeries(t *testing.T) {
	a := newAuthority(t)
	remote := func(name string) config.AuthorizationServer {
		return gatetest.AuthorizationServer(a.introspectedBy(config.BothKinds), named(name, "https://"+name+".example"), func(s *config.AuthorizationServer) {
			u := *s.Introspection.Endpoint
			u.Path = "/jwks"
			s.KeySet.File, s.KeySet.URL = "", &u
		})
	}
	registry := prometheus.NewPedanticRegistry()
	metrics := NewMetrics(registry)
	told := func(server string) int {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetValue() == server {
						n++
					}
				}
			}
		}
		return n
	}
	var pool reuse.Pool
	before, now := pool.Lease(), pool.Lease()
	first := newValidator(t, Options{Metrics: metrics, Lease: before}, remote("stays"), remote("goes"))
	first.Start()
	all := told("stays")
	if all < 8 || told("goes") != all {
		t.Fatalf("%d series in all and %d of the removed server, want both", all, told("goes"))
	}
	next := newValidator(t, Options{Metrics: metrics, Lease: now}, remote("stays"))
	before.Release()
	next.Start()
	if told("stays") != all || told("goes") != 0 {
		t.Errorf("%d series of the kept server and %d of the removed server, want none of the removed", told("stays"), told("goes"))
	}
	abandoned := pool.Lease()
	newValidator(t, Options{Metrics: metrics, Lease: abandoned}, remote("stays"), remote("never"))
	abandoned.Release()
	if told("stays") != all || told("never") != 0 {
		t.Errorf("%d series of the kept server and %d of the abandoned server, want none of the abandoned", told("stays"), told("never"))
	}
	stays, broken := remote("stays"), remote("broken")
	stays.Leeway = time.Second // makes another client
	broken.KeySet.URL, broken.KeySet.File = nil, "/nowhere"
	failed := pool.Lease()
	if _, err := New([]config.AuthorizationServer{stays, remote("never"), broken}, Options{Metrics: metrics, Lease: failed}); err == nil {
		t.Fatal("New with a broken server = nil, want an error")
	}
	failed.Release()
	if told("stays") != all || told("never")+told("broken") != 0 {
		t.Errorf("%d series of the kept server and %d of unfinished servers, want none of the unfinished", told("stays"), told("never")+told("broken"))
	}
}

// After a reload, a client with an open breaker is replaced by a client with a closed breaker,
// and the metrics show the new client alone.
func TestReloadWithOpenBreaker(t *testing.T) {
	a := newAuthority(t)
	registry := prometheus.NewPedanticRegistry()
	metrics := NewMetrics(registry)
	told := func(want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP tallygate_introspection_suspended Whether the circuit breaker for introspection is open after failures in a row: 1 or 0, by issuer.
# TYPE tallygate_introspection_suspended gauge
`+want), "tallygate_introspection_suspended"); err != nil {
			t.Error(err)
		}
	}
	const one, none = "tallygate_introspection_suspended{issuer=\"partners\"} 1\n", "tallygate_introspection_suspended{issuer=\"partners\"} 0\n"
	a.knows("opaque", activeResponse())
	a.fail(true)
	asking := a.introspectedBy(config.OpaqueOnly)
	var pool reuse.Pool
	lease := pool.Lease()
	first := newValidator(t, Options{Metrics: metrics, Lease: lease}, gatetest.AuthorizationServer(asking))
	first.Start()
	told(none)
	for i := range 10 {
		expect(t, first, strings.Repeat("x", i+1), partner, access.IssuerUnavailable)
	}
	told(one)
	a.fail(false)
	edited := gatetest.AuthorizationServer(asking, func(s *config.AuthorizationServer) { s.Leeway = time.Second })
	next := newValidator(t, Options{Metrics: metrics, Lease: pool.Lease()}, edited)
	told(one) // nothing has replaced it yet
	lease.Release()
	next.Start()
	expect(t, next, "opaque", partner, access.Granted)
	told(none)
	expect(t, first, "another", partner, access.IssuerUnavailable) // a request that began before the reload
	told(none)
}

// Prefetch fetches what has changed before any request needs it, and does not wait for a server
// that is new or was unusable before.
func TestPrefetch(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	e := newAuthority(t)
	var asked atomic.Int64
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(testpki.KeySet(key))
	})
	fetched := func(s *config.AuthorizationServer) {
		e.introspectedBy(config.JWTOnly)(s)
		u := *s.Introspection.Endpoint
		u.Path, s.Introspection = "/jwks", nil
		s.KeySet.URL = &u
	}
	var pool reuse.Pool
	v := newValidator(t, Options{Lease: pool.Lease()}, gatetest.AuthorizationServer(fetched))
	runUntilReady(t, v)
	moved := func(s *config.AuthorizationServer) { s.KeySet.URL.Path = "/moved" }
	second := gatetest.AuthorizationServer(fetched, named("second", "https://second.example"))
	lease := pool.Lease()
	next := newValidator(t, Options{Lease: lease}, gatetest.AuthorizationServer(fetched, moved), second)
	asked.Store(0)
	if err := next.Prefetch(t.Context(), v); err != nil || asked.Load() != 1 {
		t.Errorf("Prefetch: %d fetches, %v; want 1, nil", asked.Load(), err)
	}
	expect(t, next, key.Token(bound()), partner, access.Granted)
	if err := next.Prefetch(t.Context(), v); err != nil || asked.Load() != 1 {
		t.Errorf("second Prefetch: %d fetches, %v; want no more", asked.Load(), err)
	}
	lease.Release()
	var other reuse.Pool
	unread := newValidator(t, Options{Lease: other.Lease()}, gatetest.AuthorizationServer(fetched))
	if err := newValidator(t, Options{Lease: other.Lease()}, gatetest.AuthorizationServer(fetched, moved)).Prefetch(t.Context(), unread); err != nil || asked.Load() != 1 {
		t.Errorf("Prefetch for an unusable server: %d fetches, %v; want none", asked.Load(), err)
	}
	e.Close()
	err := newValidator(t, Options{Lease: pool.Lease()}, gatetest.AuthorizationServer(fetched, moved)).Prefetch(t.Context(), v)
	if !errors.Is(err, ErrTokensUnverifiable) || !strings.Contains(err.Error(), `"partners"`) {
		t.Errorf("Prefetch = %v, want ErrTokensUnverifiable with the server's name", err)
	}
}

// A reload with unchanged keys does not interrupt their refresh: a fetch under way goes on, and
// requests that wait for it are answered.
func TestRefreshSurvivesReload(t *testing.T) {
	key, fresh := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	a := newAuthority(t)
	begun, release := make(chan bool, 10), make(chan []byte)
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		select {
		case keys := <-release:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(keys)
		case <-r.Context().Done():
			t.Error("a fetch was canceled, want it to go on")
		}
	})
	fetched := gatetest.AuthorizationServer(a.introspectedBy(config.JWTOnly), func(s *config.AuthorizationServer) {
		s.KeySet.URL, s.Introspection = s.Introspection.Endpoint, nil
	})
	var pool reuse.Pool
	lease := pool.Lease()
	v := newValidator(t, Options{Lease: lease}, fetched)
	v.Start()
	handOver := func(leeway time.Duration) {
		fetched.Leeway = leeway
		next := pool.Lease()
		v = newValidator(t, Options{Lease: next}, fetched)
		lease.Release()
		v.Start()
		lease = next
	}
	<-begun
	handOver(time.Second)
	release <- testpki.KeySet(key)
	gatetest.EventuallyEqual(t, "Ready()", nil, v.Ready)
	before := v
	answered := make(chan error)
	go func() {
		_, err := before.Validate(t.Context(), Credentials{Token: fresh.Token(bound())}, certificate(partner))
		answered <- err
	}()
	<-begun
	handOver(2 * time.Second)
	handOver(3 * time.Second)
	release <- testpki.KeySet(key, fresh)
	if got := gatetest.Reason(t, <-answered); got != access.Granted && got != access.IssuerUnavailable { // a request waits for at most half a second
		t.Errorf("token with a new key during the reload: %s, want granted or issuer_unavailable", got)
	}
	gatetest.EventuallyEqual(t, "Validate() of a token with the new key", access.Granted, func() access.Reason {
		_, err := v.Validate(t.Context(), Credentials{Token: fresh.Token(bound())}, certificate(partner))
		return gatetest.Reason(t, err)
	})
	if len(begun) > 0 {
		t.Errorf("%d more fetches, want 0", len(begun))
	}
}

package jwks

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// While the server is down, a Source with new settings takes over the fetched keys, if it would
// fetch them from the same URL over a connection that it trusts. Only keys of its algorithms are
// kept.
func TestInheritedKeys(t *testing.T) {
	ec, rsa := testpki.NewSigner("ES256", "ec"), testpki.NewSigner("RS256", "rsa")
	e := newEndpoint(t, document(gatetest.KeySet(ec.JWK(), rsa.JWK(M{"alg": nil}))))
	another, _ := testpki.NewCA("another CA").Write(t.TempDir(), "another")
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(testpki.NewSigner("ES256", "other")))
	two := func(s *config.AuthorizationServer) {
		s.Connection.Trust = append(s.Connection.Trust, config.Path(another))
	}
	moved := func(path string) func(*config.AuthorizationServer) {
		return func(s *config.AuthorizationServer) { s.KeySet.URL = gatetest.URL(t, e.URL+path) }
	}
	insecure := func(s *config.AuthorizationServer) { s.Connection.InsecureLoopbackHTTP = true }
	none, unread := access.UnsupportedAlgorithm, access.IssuerUnavailable
	for name, c := range map[string]struct {
		before, edit func(*config.AuthorizationServer)
		ec, rsa      access.Reason
	}{
		"refresh":           {nil, func(s *config.AuthorizationServer) { s.KeySet.Refresh = time.Hour }, access.Granted, none},
		"cool_down":         {nil, func(s *config.AuthorizationServer) { s.KeySet.CoolDown = time.Minute }, access.Granted, none},
		"max_stale":         {nil, func(s *config.AuthorizationServer) { s.KeySet.MaxStale = time.Hour }, access.Granted, none},
		"max_stale, over":   {nil, func(s *config.AuthorizationServer) { s.KeySet.MaxStale = 1 }, unread, none},
		"more algorithms":   {nil, gatetest.Algorithms(config.ES256, config.RS256), access.Granted, access.Granted},
		"others":            {nil, gatetest.Algorithms(config.RS256), none, access.Granted},
		"fewer":             {gatetest.Algorithms(config.ES256, config.RS256), gatetest.Algorithms(config.ES256), access.Granted, none},
		"of no key":         {nil, gatetest.Algorithms(config.EdDSA, config.ES384), none, none},
		"more trust":        {nil, two, access.Granted, none},
		"less trust":        {two, func(*config.AuthorizationServer) {}, unread, none},
		"the system's":      {nil, func(s *config.AuthorizationServer) { s.Connection.Trust = nil }, unread, none},
		"http":              {nil, insecure, access.Granted, none},
		"http no more":      {insecure, func(*config.AuthorizationServer) {}, unread, none},
		"another URL":       {nil, moved("/elsewhere"), unread, none},
		"found by metadata": {nil, func(s *config.AuthorizationServer) { s.KeySet.URL = nil }, unread, none},
		"another issuer":    {nil, func(s *config.AuthorizationServer) { s.Issuer = "https://moved.example" }, unread, none},
		"a file before":     {fromFile, moved("/jwks"), unread, none},
	} {
		t.Run(name, func(t *testing.T) {
			if c.before == nil {
				c.before = func(*config.AuthorizationServer) {}
			}
			e.serve(document(gatetest.KeySet(ec.JWK(), rsa.JWK(M{"alg": nil}))))
			pool, log := new(reuse.Pool), slog.New(slog.DiscardHandler)
			before := after(t, pool, nil, gatetest.AuthorizationServer(e.settings(t), c.before), log)
			if err := before.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			expect(t, before, ec.Token(bound()), map[bool]access.Reason{true: access.UnknownKey, false: access.Granted}[name == "a file before"])
			e.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
			next := after(t, pool, nil, gatetest.AuthorizationServer(e.settings(t), c.edit), log)
			expect(t, next, ec.Token(bound()), c.ec)
			expect(t, next, rsa.Token(bound()), c.rsa)
			if got := next.Latest(); got != nil && !got.fetchedAt.Equal(before.Latest().fetchedAt) {
				t.Error("the inherited keys are as new as the Source, want their own age")
			}
		})
	}
	pool, log := new(reuse.Pool), slog.New(slog.DiscardHandler)
	after(t, pool, localKeySet(testpki.KeySet(ec)), gatetest.AuthorizationServer(), log)
	next := after(t, pool, nil, gatetest.AuthorizationServer(e.settings(t), func(s *config.AuthorizationServer) { s.KeySet.URL = nil }), log)
	if ready(next) {
		t.Error("the keys of our own issuer were inherited by another server, want none")
	}
}

// Another tenant is another key set, even at the same URL: Entra publishes keys of one tenant among
// the keys of all.
func TestReloadOfTenant(t *testing.T) {
	e := newEndpoint(t, document(testpki.KeySet(testpki.NewSigner("ES256", "k1"))))
	pool, log := new(reuse.Pool), slog.New(slog.DiscardHandler)
	entra := func(s *config.AuthorizationServer) {
		s.Issuer, s.Profile = "https://login.microsoftonline.com/0f1c2d3e-4a5b-4c6d-8e7f-001122334455/v2.0", config.ProfileEntra
	}
	other := func(s *config.AuthorizationServer) { s.Profile = config.ProfileRFC9068 }
	first := after(t, pool, nil, gatetest.AuthorizationServer(e.settings(t), entra), log)
	if same := after(t, pool, nil, gatetest.AuthorizationServer(e.settings(t), entra), log); same != first {
		t.Error("New without a change returned a new Source, want the previous one")
	}
	if next := after(t, pool, nil, gatetest.AuthorizationServer(e.settings(t), entra, other), log); next == first {
		t.Error("New without the tenant returned the previous Source, want a new one")
	}
}

package issuer_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/issuer/store"
)

// onDatabase returns an edit that puts the state into a new database of server.
func onDatabase(t testing.TB, server *testpostgres.Server) func(*config.Config) {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	file := filepath.Join(t.TempDir(), "encryption.key")
	gatetest.WriteFile(t, file, []byte(base64.StdEncoding.EncodeToString(key)))
	database := &config.Database{URL: server.Database(), InsecureSSLMode: config.SSLDisable, EncryptionKeys: []config.Path{config.Path(file)}}
	return func(cfg *config.Config) { cfg.Issuer.State, cfg.Issuer.Database = "", database }
}

// serve runs the background work of s until the end of the test.
func (s *harness) serve() {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.issuer.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
}

// replicas returns two running issuers that share a database of server.
func replicas(t *testing.T, server *testpostgres.Server, edits ...func(*config.Config)) (a, b *harness) {
	t.Helper()
	edits = append([]func(*config.Config){sameIssuer(), onDatabase(t, server)}, edits...)
	a, b = newHarness(t, "", edits...), newHarness(t, "", edits...)
	a.serve()
	b.serve()
	return a, b
}

// within checks that holds becomes true within a second, the promise of a revocation. The limit
// is higher, because a busy machine must not fail the test.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	began := time.Now()
	if !gatetest.Within(20*time.Second, holds) {
		t.Errorf("%s: not after 20 s", what)
	}
	t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
}

// Two issuers with one database: a token of one is active at the other, and a revocation at one ends it
// at the other.
func TestReplicas(t *testing.T) {
	for name, edits := range map[string][]func(*config.Config){"jwt": nil, "opaque": {opaque}} {
		t.Run(name, func(t *testing.T) {
			a, b := replicas(t, testpostgres.Shared(t), edits...)
			inactiveAt := func(s *harness, token string) bool {
				return s.introspect(accounts, "accounts-api", token).body == inactive
			}
			token, other := a.fetch(good), a.fetch(good)
			b.secret(token, other)
			if inactiveAt(a, token) || inactiveAt(b, token) {
				t.Fatal("the token is inactive at once")
			}
			if got := b.revoke(ledger, "token="+token+byLedger); got.status != 200 {
				t.Fatalf("POST /revoke at the other issuer: got %d %s, want 200", got.status, got.body)
			}
			if !inactiveAt(b, token) {
				t.Error("the token is active at the issuer that revoked it")
			}
			within(t, "revoked at one issuer, inactive at the other", func() bool { return inactiveAt(a, token) })
			if inactiveAt(a, other) || inactiveAt(b, other) {
				t.Error("another token is inactive")
			}
			if _, err := a.issuer.Revoke(issuer.RevocationRequest{Application: "northwind-ledger"}); err != nil {
				t.Fatal(err)
			}
			within(t, "application revoked at one issuer, inactive at the other", func() bool { return inactiveAt(b, other) })
			b.clock.Store(int64(10 * time.Second)) // past the bound of the clocks
			if later := b.fetch(good); inactiveAt(b, later) {
				t.Error("a token issued later is inactive")
			}
		})
	}
}

// A token of an issuer whose clock is ahead is revoked with its application by an issuer whose clock is
// right.
func TestReplicasClocks(t *testing.T) {
	a, b := replicas(t, testpostgres.Shared(t))
	b.clock.Store(int64(1900 * time.Millisecond)) // the bound is 2 s
	ahead := b.fetch(good)
	a.secret(ahead)
	if _, err := a.issuer.Revoke(issuer.RevocationRequest{Application: "northwind-ledger"}); err != nil {
		t.Fatal(err)
	}
	if got := a.introspect(accounts, "accounts-api", ahead).body; got != inactive {
		t.Errorf("the token of the issuer whose clock is ahead is %s after the revocation, want inactive", got)
	}
}

// Without the database, the issuer grants no token and calls no token active: every endpoint answers
// 503, and the gate in the process refuses tokens because it cannot decide. When the database is back,
// all requests succeed.
func TestReplicasWithoutDatabase(t *testing.T) {
	server := testpostgres.Start(t)
	signed, _ := replicas(t, server)
	stored, _ := replicas(t, server, opaque)
	jwt, text := signed.fetch(good), stored.fetch(good)
	claims := access.Unchecked{Issuer: signed.identifier, TokenID: "j", ClientID: "northwind-ledger", IssuedAt: time.Now()}
	if isRevoked(t, signed.issuer, claims) {
		t.Fatal("the token is revoked at once")
	}
	server.Stop()
	// Requests that need the database fail at once.
	stored.refused(stored.ask(ledger, good), "temporarily_unavailable")
	stored.refused(stored.introspect(accounts, "accounts-api", text), "temporarily_unavailable")
	signed.refused(signed.revoke(ledger, "token="+jwt+byLedger), "temporarily_unavailable")
	// All other requests fail as soon as a revocation of another process could be unknown.
	if !gatetest.Within(20*time.Second, func() bool { _, err := signed.issuer.Revoked(claims); return errors.Is(err, store.ErrUnavailable) }) {
		t.Error("Revoked returns no error 20 s after the database went away")
	}
	signed.refused(signed.ask(ledger, good), "temporarily_unavailable")
	signed.refused(signed.introspect(accounts, "accounts-api", jwt), "temporarily_unavailable")
	if _, active, err := signed.issuer.Resolve(jwt); active || err == nil {
		t.Errorf("Resolve returned %t, %v; want an error", active, err)
	}
	if answer := signed.send(nil, "GET", "/jwks", nil, ""); answer.status != 200 || !strings.Contains(answer.body, `"kid"`) {
		t.Errorf("GET /jwks: got %d %s, want the key set, because keys are files here", answer.status, answer.body)
	}
	server.Restart()
	within(t, "a token after the restart", func() bool { return signed.ask(ledger, good).status == 200 })
	if got := stored.introspect(accounts, "accounts-api", text).body; got == inactive {
		t.Error("after a restart of the database the token is inactive")
	}
}

// Open waits for an unreachable database until its timeout or the end of its context.
func TestStartWithoutDatabase(t *testing.T) {
	server := testpostgres.Start(t)
	s := newHarness(t, "", onDatabase(t, server))
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if err := s.issuer.OpenWithin(t.Context(), time.Millisecond); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Open without the database returned %v, want ErrUnavailable", err)
	}
	stopped, stop := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() { opened <- s.issuer.Open(stopped) }()
	stop()
	if err := <-opened; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Open that was told to stop returned %v, want ErrUnavailable", err)
	}
	go func() { opened <- s.issuer.Open(t.Context()) }()
	const waits = "the issuer's state is away, and the start waits for it"
	if !gatetest.Within(20*time.Second, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return strings.Count(s.log.String(), waits) == 3
	}) {
		t.Errorf("the log does not have %q once for each start", waits)
	}
	server.Restart()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	s.granted(s.ask(ledger, good))
}

// A revocation that the database keeps, because this issuer's clock is wrong or the sweep failed, stays in force: it
// is not read again.
func TestReplicasFailedSweep(t *testing.T) {
	server := testpostgres.Shared(t)
	onServer := onDatabase(t, server)
	a := newHarness(t, "", sameIssuer(), onServer)
	a.serve()
	token := a.fetch(good)
	if got := a.revoke(ledger, "token="+token+byLedger); got.status != 200 {
		t.Fatalf("POST /revoke: got %d %s, want 200", got.status, got.body)
	}
	var cfg config.Config
	cfg.Issuer = new(config.Issuer)
	onServer(&cfg)
	server.Exec(cfg.Issuer.Database.URL.Database,
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$`,
		`CREATE TRIGGER refuse BEFORE DELETE ON tallygate.revocations FOR EACH STATEMENT EXECUTE FUNCTION refuse()`)
	a.clock.Store(int64(2 * time.Hour))
	a.issuer.Sweep(t.Context())
	a.clock.Store(0)
	if got := a.introspect(accounts, "accounts-api", token).body; got != inactive {
		t.Errorf("after the sweep the revoked token is %s, want inactive", got)
	}
}

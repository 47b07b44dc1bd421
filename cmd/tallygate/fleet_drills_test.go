package main

import (
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpostgres"
)

const (
	// fleetStaleness is the least max_staleness, so that the drills wait as little as possible.
	fleetStaleness = 5 * time.Second
	// fleetMargin is added to the time within which a sidecar must refuse a revoked target, because the machine may be
	// busy. The times themselves are measured by TestFleet.
	fleetMargin = 5 * time.Second
)

// answers waits until the sidecar answers x with status and reason.
func (f *fleet) answers(s *sidecar, x *target, status int, reason string) {
	f.t.Helper()
	var got int
	var why string
	if !gatetest.Within(patience, func() bool { got, why = s.call(f, x); return got == status && why == reason }) {
		f.t.Errorf("%s, %s: got %d %s, want %d %s", s.name, x.name, got, why, status, reason)
	}
}

func (f *fleet) spared() *target { return &f.targets[len(f.targets)-1] }

// The database crashes between revocations and restarts. Until it is back, stale sidecars answer 503, and no sidecar
// grants a revoked target.
func TestFleetDatabaseRestart(t *testing.T) {
	t.Parallel() // it waits most of the time
	server := testpostgres.Start(t, "fsync=on")
	f := newFleetOn(t, 16, server.Database())
	f.addSidecar("max_staleness: 5s")
	f.addSidecar("max_staleness: 5s")
	f.awaitReady()
	f.fetchAll()
	w := f.witness(fleetStaleness + fleetMargin)
	w.revoke(f.targets[:6], 10*time.Millisecond)
	server.Kill()
	for _, s := range f.sidecars {
		f.answers(s, f.spared(), http.StatusServiceUnavailable, "revocations_stale")
	}
	server.Restart()
	w.revoke(f.targets[6:16], 10*time.Millisecond)
	w.end()
	for _, s := range f.sidecars {
		f.answers(s, f.spared(), http.StatusOK, "")
	}
}

// An issuer is killed while it serves feeds. Its sidecars connect to the other issuer before their
// revocations are stale.
func TestFleetIssuerKilled(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFleet(t, 16)
	for range 4 {
		f.addSidecar("max_staleness: 30s")
	}
	f.awaitReady()
	f.fetchAll()
	w := f.witness(fleetMargin)
	w.revoke(f.targets[:6], 0)
	f.issuers[0].kill()
	w.revoke(f.targets[6:12], 0)
	for _, s := range f.sidecars {
		f.answers(s, f.spared(), http.StatusOK, "")
	}
	f.startIssuer(0)
	f.issuers[1].kill()
	w.revoke(f.targets[12:16], 0)
	w.end()
	for _, s := range f.sidecars {
		f.answers(s, f.spared(), http.StatusOK, "")
	}
}

// The database fails over to a replica that lacks the last commits. The sidecars keep their revocations, also
// over a restart, and follow the promoted server.
func TestFleetFailover(t *testing.T) {
	t.Parallel() // it waits most of the time
	primary := testpostgres.Start(t, "fsync=on")
	database := primary.Database()
	replica := primary.Standby()
	both := database
	both.Hosts = append([]config.DatabaseHost{}, database.Hosts...)
	both.Hosts = append(both.Hosts, config.DatabaseHost{Host: "127.0.0.1", Port: replica.Port()})
	f := newFleetOn(t, 12, both)
	f.addSidecar("max_staleness: 30s", "state: state-0")
	f.addSidecar("max_staleness: 30s", "state: state-1")
	f.awaitReady()
	f.fetchAll()
	w := f.witness(fleetMargin)
	w.revoke(f.targets[:4], 0)
	const count = "SELECT count(*) FROM tallygate.revocations"
	replicated := primary.Value(database.Database, count)
	gatetest.EventuallyEqual(t, "the number of revocations at the replica", replicated, func() string { return replica.Value(database.Database, count) })
	replica.Exec("postgres", "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	gatetest.Eventually(t, "the replica receives nothing more", func() bool {
		return replica.Value("postgres", "SELECT count(*) FROM pg_stat_wal_receiver") == "0"
	})
	w.revoke(f.targets[4:8], 0)
	for i := range 8 {
		f.refusedByAll(&f.targets[i], time.Now())
	}
	primary.Kill()
	replica.Exec("postgres", "SELECT pg_promote()")
	if got := replica.Value(database.Database, count); got != replicated {
		t.Errorf("the promoted server has %s revocations, want %s: the last are lost", got, replicated)
	}
	w.revoke(f.targets[8:12], 0)
	w.end()
	s := f.sidecars[0]
	s.kill()
	f.startSidecar(s)
	f.awaitReady()
	f.allRefused(12)
	f.answers(s, f.spared(), http.StatusOK, "")
}

// The streams are cut for longer than max_staleness, with each value of when_stale.
func TestFleetStale(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFleet(t, 4)
	refuse := f.addSidecar("max_staleness: 5s", "when_stale: refuse")
	introspect := f.addSidecar("max_staleness: 5s", "when_stale: introspect")
	further := f.addSidecar("max_staleness: 5s", "when_stale: continue")
	f.awaitReady()
	f.fetchAll()
	revoked, later := f.targets[:2], f.targets[2:4]
	for i := range revoked {
		f.check(f.revoke(&revoked[i], i))
		f.refusedByAll(&revoked[i], time.Now())
	}
	for _, feed := range f.feeds {
		feed.cut(true)
	}
	for i := range later {
		f.check(f.revoke(&later[i], i))
	}
	f.answers(refuse, f.spared(), http.StatusServiceUnavailable, "revocations_stale")
	for i := range later {
		refuse.upstream.forget()
		if status, reason := refuse.call(f, &later[i]); status != http.StatusServiceUnavailable || reason != "revocations_stale" {
			t.Errorf("refuse, %s: got %d %s, want 503 revocations_stale", later[i].name, status, reason)
		}
		if _, requests := refuse.upstream.take(); requests > 0 {
			t.Errorf("refuse, %s: %d requests at the upstream, want none", later[i].name, requests)
		}
		f.answers(introspect, &later[i], http.StatusUnauthorized, "inactive")
		if fault := introspect.notRefused(f, &later[i]); fault != "" {
			t.Errorf("introspect: %s", fault)
		}
		f.answers(further, &later[i], http.StatusOK, "")
	}
	for _, s := range []*sidecar{introspect, further} {
		f.answers(s, f.spared(), http.StatusOK, "")
		for i := range revoked {
			if fault := s.notRefused(f, &revoked[i]); fault != "" {
				t.Errorf("what was known before the cut: %s", fault)
			}
		}
	}
	for _, feed := range f.feeds {
		feed.cut(false)
		feed.reset()
	}
	for i := range later {
		f.refusedByAll(&later[i], time.Now())
	}
	for _, s := range f.sidecars {
		f.answers(s, f.spared(), http.StatusOK, "")
	}
}

// A sidecar that restarts without a feed refuses the revocations in its state on disk. Without a state on disk,
// every request gets 503.
func TestFleetSidecarRestarted(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFleet(t, 8)
	kept := f.addSidecar("max_staleness: 30s", "state: state-kept")
	none := f.addSidecar("max_staleness: 30s")
	f.awaitReady()
	f.fetchAll()
	for i := range 4 {
		f.check(f.revoke(&f.targets[i], i%2))
		f.refusedByAll(&f.targets[i], time.Now())
	}
	f.check(kept.stop()) // writes its state; killed sidecars are another test
	none.kill()
	for _, feed := range f.feeds {
		feed.cut(true)
	}
	for i := 4; i < 8; i++ {
		f.check(f.revoke(&f.targets[i], i%2))
	}
	f.startSidecar(kept)
	f.startSidecar(none)
	f.answers(kept, f.spared(), http.StatusOK, "")
	for i := range 4 {
		if fault := kept.notRefused(f, &f.targets[i]); fault != "" {
			t.Errorf("known on disk: %s", fault)
		}
	}
	for _, x := range []*target{&f.targets[0], &f.targets[4], f.spared()} {
		none.upstream.forget()
		f.answers(none, x, http.StatusServiceUnavailable, "revocations_stale")
		if _, requests := none.upstream.take(); requests > 0 {
			t.Errorf("without a state, %s: %d requests at the upstream, want none", x.name, requests)
		}
	}
	if got := kept.ready(); got != http.StatusOK {
		t.Errorf("/readyz of the sidecar with a state: got %d, want 200", got)
	}
	if got := none.ready(); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz of the sidecar without a state: got %d, want 503", got)
	}
	for _, feed := range f.feeds {
		feed.cut(false)
		feed.reset()
	}
	f.awaitReady()
	for i := range 8 {
		f.refusedByAll(&f.targets[i], time.Now())
	}
	f.answers(none, f.spared(), http.StatusOK, "")
}

// A sidecar is killed at different moments, also during a write of its state. Each start finds a complete
// state.
func TestFleetSidecarKilled(t *testing.T) {
	t.Parallel() // it waits most of the time
	const rounds, each = 8, 6
	f := newFleet(t, rounds*each)
	s := f.addSidecar("max_staleness: 30s", "state: state")
	f.awaitReady()
	f.fetchAll()
	for round := range rounds {
		w := f.witness(fleetMargin)
		time.AfterFunc(rand.N(1500*time.Millisecond), func() { _ = s.process.Process.Kill() })
		w.revoke(f.targets[round*each:(round+1)*each], 100*time.Millisecond)
		<-s.exited
		s.process = nil
		f.startSidecar(s)
		f.awaitReady()
		w.end()
		if lines := s.lines("file of revocations not used; all revocations are fetched"); len(lines) > 0 {
			t.Errorf("round %d: the state is not whole: %v", round, lines)
		}
		f.allRefused((round + 1) * each)
	}
	if leftovers, _ := filepath.Glob(filepath.Join(f.dir, "state", "*")); len(leftovers) > 2 {
		t.Errorf("the folder of the state has %q, want the state alone", leftovers)
	}
}

// The database sends no notification of revocations. The issuers read the log each second.
func TestFleetNotificationsLost(t *testing.T) {
	t.Parallel() // it waits most of the time
	server := testpostgres.Start(t)
	database := server.Database()
	// A function of the same name, first in the search path of the issuers' role, counts its calls and
	// notifies no connection.
	server.Exec(database.Database, "CREATE SEQUENCE public.lost", "GRANT USAGE ON SEQUENCE public.lost TO "+database.User,
		"CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT nextval('public.lost') $$",
		"ALTER ROLE "+database.User+" SET search_path = public, pg_catalog")
	f := newFleetOn(t, 8, database)
	f.addSidecar("max_staleness: 30s")
	f.addSidecar("max_staleness: 30s")
	f.awaitReady()
	f.fetchAll()
	w := f.witness(fleetMargin)
	var longest time.Duration
	for i := range 8 {
		f.check(f.revoke(&f.targets[i], i%2))
		w.acknowledge(&f.targets[i])
		for _, took := range f.refusedByAll(&f.targets[i], time.Now()) {
			longest = max(longest, took)
		}
	}
	w.end()
	if got := server.Value(database.Database, "SELECT last_value FROM public.lost"); got == "1" {
		t.Error("the issuers notified by another function than the test's, or not at all")
	}
	t.Logf("refused by all after %s at most", longest.Round(time.Millisecond))
}

package subscriber

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/revocation"
)

func steady(c *connection) {
	c.begin()
	c.snapshot(1, token("a"))
	c.heartbeat(1)
	c.idle()
}

// A reload keeps the stream. A reload that changes the settings opens another stream from the same position, and at no
// time is a revocation unknown.
func TestReload(t *testing.T) {
	s := newIssuer(t, steady)
	pool := new(reuse.Pool)
	first := s.open(t, gateOptions{pool: pool})
	first.current()
	same := s.open(t, gateOptions{pool: pool})
	first.lease.Release()
	if same.Subscriber != first.Subscriber || !same.Status().Connected || len(s.asked()) != 1 {
		t.Errorf("after a reload: the same Subscriber %t, connected %t, %d streams; want true, true, 1", same.Subscriber == first.Subscriber, same.Status().Connected, len(s.asked()))
	}
	changed := s.open(t, gateOptions{pool: pool, edit: func(r *config.Revocations) { r.MaxStaleness = time.Minute }, stopped: true})
	if changed.Subscriber == same.Subscriber || changed.Set() != same.Set() || !changed.Synced() || changed.Current() != nil {
		t.Errorf("after a change: another Subscriber %t, the same set %t, synced %t, %v; want true, true, true, nil",
			changed.Subscriber != same.Subscriber, changed.Set() == same.Set(), changed.Synced(), changed.Current())
	}
	changed.Start()
	same.lease.Release()
	gatetest.Eventually(t, "another stream", func() bool { got := s.asked(); return len(got) == 2 && got[1] == "e:1" })
	renamed := s.open(t, gateOptions{pool: pool, server: func(c *config.AuthorizationServer) { c.Name = "renamed" }, stopped: true})
	if renamed.Set() != same.Set() || renamed.Current() != nil {
		t.Errorf("after a reload that renames the server: the same set %t, %v; want true, nil", renamed.Set() == same.Set(), renamed.Current())
	}
	// After a change of the anchors, a gate does not take over the set that came over the previous anchors.
	ca := s.dir + "/other.pem"
	gatetest.WriteFile(t, ca, newIssuer(t, steady).ca.CertPEM())
	distrusting := s.open(t, gateOptions{pool: pool, server: func(c *config.AuthorizationServer) { c.Connection.Trust = []config.Path{config.Path(ca)} }})
	if distrusting.Set() == same.Set() || distrusting.Synced() {
		t.Error("a gate with other anchors has the previous set or is synced, want a new set that is not synced")
	}
}

// A gate connects to the next feed when an issuer is unreachable, refuses, or does not know whether there are more
// revocations.
func TestSeveralFeeds(t *testing.T) {
	s := newIssuer(t, steady)
	for name, answer := range map[string]http.HandlerFunc{
		"refuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"silent database": func(w http.ResponseWriter, r *http.Request) {
			c := &connection{w, r, 0, time.Now()}
			c.begin()
			for r.Context().Err() == nil {
				c.raw(": alive\n")
				time.Sleep(10 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var asked int
			inner := s.Config.Handler
			defer func() { s.Config.Handler = inner }()
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/bad/") {
					inner.ServeHTTP(w, r)
					return
				}
				mu.Lock()
				asked++
				mu.Unlock()
				answer(w, r)
			})
			feed := func(path string) config.URL { return *gatetest.URL(t, s.URL+path) }
			for asked == 0 { // the first feed is random
				g := s.open(t, gateOptions{edit: func(r *config.Revocations) {
					r.MaxStaleness = 500 * time.Millisecond
					r.Feeds = []config.URL{feed("/bad/0"), feed("/revocations"), feed("/bad/1")}
				}})
				gatetest.Eventually(t, "a good feed", g.Synced)
				g.lease.Release()
			}
		})
	}
}

// The pauses between streams that end at once grow. After a stream that lasted, the pause is short again.
func TestPauses(t *testing.T) {
	var mu sync.Mutex
	var failures []int
	s := newIssuer(t, func(c *connection) { c.begin() })
	g := s.open(t, gateOptions{timing: func(t *timing) {
		t.pause = func(n int) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, n)
			return time.Millisecond
		}
	}})
	seen := func() []int { mu.Lock(); defer mu.Unlock(); return slices.Clone(failures) }
	gatetest.Eventually(t, "five streams", func() bool { return len(seen()) >= 5 })
	g.lease.Release()
	if got := seen()[:5]; !slices.Equal(got, []int{1, 2, 3, 4, 5}) {
		t.Errorf("failures in a row %v, want 1 to 5", got)
	}
	g = s.open(t, gateOptions{timing: func(to *timing) { to.steady = 0; to.pause = g.timing.pause }})
	n := len(seen())
	gatetest.Eventually(t, "five streams", func() bool { return len(seen()) >= n+5 })
	g.lease.Release()
	if got := seen()[n : n+5]; slices.Max(got) != 1 {
		t.Errorf("failures in a row %v after streams that lasted, want 1 each", got)
	}
}

// The pauses of a fleet spread evenly: no hundredth of the longest pause has ten times the average number of pauses.
func TestPausesSpread(t *testing.T) {
	for failures, delay := range map[int]time.Duration{1: time.Second, 3: 4 * time.Second, 50: 15 * time.Second} {
		var buckets [111]int
		for range 10_000 {
			p := pause(failures)
			if p < delay*9/100 || p > delay*11/10 {
				t.Fatalf("pause(%d) = %v, want %v to %v", failures, p, delay*9/100, delay*11/10)
			}
			buckets[p*100/delay]++
		}
		if most := slices.Max(buckets[:]); most > 1000 {
			t.Errorf("pause(%d): %d of 10,000 in a hundredth of %v, want about 100", failures, most, delay)
		}
	}
}

// The set is stale from max_staleness after the last heartbeat, until the next heartbeat. Each change is logged once.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gatetest.Log
		s := &Subscriber{known: newKnowledge(), settings: config.Revocations{MaxStaleness: 30 * time.Second}, log: slog.New(slog.NewJSONHandler(&log, nil)), now: time.Now}
		s.upkeep.Start(s.maintain)
		defer s.upkeep.Stop()
		expect := func(when string, stale bool, lines int) {
			t.Helper()
			synctest.Wait()
			if err := s.Current(); (err != nil) != stale || stale && !errors.Is(err, ErrStale) {
				t.Errorf("%s: Current = %v, want stale %t", when, err, stale)
			}
			if got := strings.Count(log.String(), "\n"); got != lines {
				t.Errorf("%s: %d log lines, want %d: %s", when, got, lines, log.String())
			}
		}
		time.Sleep(time.Minute)
		expect("before the first sync", true, 0)
		s.known.jump("e", 1)
		s.known.complete("e", 1, time.Now())
		time.Sleep(30*time.Second - time.Millisecond)
		expect("just before the limit", false, 0)
		time.Sleep(time.Millisecond)
		expect("at the limit", true, 1)
		time.Sleep(time.Minute)
		expect("a minute later", true, 1)
		s.known.complete("e", 1, time.Now())
		expect("after a heartbeat", false, 1)
		time.Sleep(2 * time.Second)
		expect("2 s after a heartbeat", false, 2)
		if err := s.known.add([]revocation.Entry{{Kind: revocation.Token}}); err == nil {
			t.Error("an entry of an unknown form was added")
		}
		expect("after a revocation without room", true, 2)
	})
}

// Expired entries are removed within a minute.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Subscriber{known: newKnowledge(), log: slog.New(slog.DiscardHandler), now: time.Now}
		check(t, s.known.add([]revocation.Entry{token("a"), {Kind: revocation.Token, Subject: strings.Repeat("b", 32)}}))
		s.upkeep.Start(s.maintain)
		defer s.upkeep.Stop()
		time.Sleep(time.Hour + 2*time.Minute)
		if got := s.Set().Len(revocation.Token); got != 1 {
			t.Errorf("%d tokens an hour and two minutes later, want the one without an end", got)
		}
	})
}

// A step of the clock forward removes no entries, because a step back makes them necessary again.
func TestSweepStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var step atomic.Int64
		s := &Subscriber{known: newKnowledge(), log: slog.New(slog.DiscardHandler), now: func() time.Time { return time.Now().Add(time.Duration(step.Load())) }}
		check(t, s.known.add([]revocation.Entry{token("a")}))
		s.upkeep.Start(s.maintain)
		defer s.upkeep.Stop()
		synctest.Wait()
		step.Store(int64(48 * time.Hour))
		time.Sleep(3 * time.Minute)
		if got := s.Set().Len(revocation.Token); got != 1 {
			t.Errorf("%d tokens after a step of the clock, want 1", got)
		}
	})
}

// The file is written at most every second, more seldom if it is large, and at the start and the end if anything has
// changed or the file says when the set was complete.
func TestWriteRate(t *testing.T) {
	now := time.Now()
	k := known(t, now, everyKind()...)
	f := &folder{path: t.TempDir()}
	expect := func(when string, now time.Time, end, want bool) {
		t.Helper()
		if got := f.due(k, issuer, now, end); got != want {
			t.Errorf("%s: due = %t, want %t", when, got, want)
		}
	}
	expect("at first", now, false, true)
	check(t, f.save(k, issuer, now))
	expect("unchanged", now.Add(time.Minute), false, false)
	expect("unchanged at the end", now.Add(time.Minute), true, false)
	check(t, k.add([]revocation.Entry{token("a")}))
	expect("changed", now.Add(999*time.Millisecond), false, false)
	expect("changed", now.Add(time.Second), false, true)
	expect("changed at the end", now.Add(time.Millisecond), true, true)
	check(t, f.save(k, issuer, now))
	k.complete("e", 7, now.Add(16*time.Second))
	expect("heard 16 s later", now.Add(16*time.Second), false, false)
	f.completeAt = now
	expect("the file says when the set was complete", now.Add(16*time.Second), false, true)
	expect("the file says so at the start", now, true, true)
	f.size = 45_000_000
	expect("a large file", now.Add(44*time.Second), false, false)
	expect("a large file", now.Add(46*time.Second), false, true)
}

// The series exist while a lease holds a Subscriber.
func TestMetrics(t *testing.T) {
	s := newIssuer(t, func(c *connection) {
		c.begin()
		c.snapshot(1, token("a"), application("x"))
		c.heartbeat(1)
		c.set(2, token("b"))
		c.idle()
	})
	g := s.follow(t)
	g.refuses("b")
	gatetest.Eventually(t, "three messages", func() bool { return g.count(applied) == 3 })
	const want = `# HELP tallygate_revocation_entries Revocations that this gate knows, by kind.
# TYPE tallygate_revocation_entries gauge
tallygate_revocation_entries{kind="application"} 1
tallygate_revocation_entries{kind="certificate"} 0
tallygate_revocation_entries{kind="foreign_subject"} 0
tallygate_revocation_entries{kind="foreign_token"} 0
tallygate_revocation_entries{kind="partner"} 0
tallygate_revocation_entries{kind="token"} 2
# HELP tallygate_revocation_sequence Number of the last revocation in the issuer's log that this gate knows.
# TYPE tallygate_revocation_sequence gauge
tallygate_revocation_sequence 2
# HELP tallygate_revocation_stale 1 while this gate does not know whether there are more revocations, for longer than max_staleness.
# TYPE tallygate_revocation_stale gauge
tallygate_revocation_stale 0
# HELP tallygate_revocation_stream_connected 1 while the stream of the issuer's feed of revocations is open.
# TYPE tallygate_revocation_stream_connected gauge
tallygate_revocation_stream_connected 1
`
	if err := testutil.GatherAndCompare(g.registry, strings.NewReader(want), "tallygate_revocation_entries", "tallygate_revocation_sequence",
		"tallygate_revocation_stale", "tallygate_revocation_stream_connected"); err != nil {
		t.Error(err)
	}
	names := func() (names string) {
		families, err := g.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			names += fmt.Sprintln(f.GetName())
		}
		return names
	}
	for _, name := range []string{"last_sync_timestamp_seconds", "events_total", "propagation_seconds"} {
		if got := names(); !strings.Contains(got, "tallygate_revocation_"+name) {
			t.Errorf("no series %s in %s", name, got)
		}
	}
	g.lease.Release()
	if got := names(); got != "" {
		t.Errorf("series after the release: %s; want none", got)
	}
}

// A reload that fails has started a Subscriber and ends it. The gauges then have the values of the Subscriber in use.
func TestMetricsAfterFailedReload(t *testing.T) {
	s := newIssuer(t, steady)
	pool := new(reuse.Pool)
	g := s.open(t, gateOptions{pool: pool})
	g.current()
	failed := s.open(t, gateOptions{pool: pool, metrics: g.metrics, edit: func(r *config.Revocations) { r.MaxStaleness = time.Minute }})
	failed.lease.Release()
	if n := testutil.CollectAndCount(g.metrics, "tallygate_revocation_stale"); n != 1 {
		t.Errorf("%d series tallygate_revocation_stale after a failed reload, want 1", n)
	}
}

// While the set is complete, the check of each request allocates nothing.
func TestCurrentDoesNotAllocate(t *testing.T) {
	s := &Subscriber{known: known(t, time.Now()), settings: config.Revocations{MaxStaleness: time.Hour}, now: time.Now}
	if n := testing.AllocsPerRun(100, func() {
		if s.Current() != nil {
			t.Error("stale")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// A growing delay of the network makes the set old. A difference of the clocks does not.
func TestLateHeartbeats(t *testing.T) {
	start := time.Now()
	for _, skew := range []time.Duration{0, 30 * time.Second, -30 * time.Second} {
		var now time.Time
		k := newKnowledge()
		k.jump("e", 1)
		s := &stream{issuer: issuer, known: k, now: func() time.Time { return now }, asked: start, maxLag: 15 * time.Second}
		for _, beat := range []struct {
			sent, received int // seconds
			age            time.Duration
			late           bool
		}{{0, 1, time.Second, false}, {2, 2, 0, false}, {4, 4, 0, false}, {6, 10, 4 * time.Second, false}, {8, 23, 15 * time.Second, false}, {10, 11, time.Second, false}, {12, 28, 0, true}} {
			now = start.Add(time.Duration(beat.received) * time.Second)
			sent := revocation.Seconds{Time: start.Add(skew + time.Duration(beat.sent)*time.Second).Round(0)}
			err := s.applyBatch(&revocation.Batch{Issuer: issuer, IssuedAt: sent, Epoch: "e", After: 1, Seq: 1})
			if errors.Is(err, errLate) != beat.late {
				t.Fatalf("skew %v: a heartbeat sent at %d and received at %d: %v, want late %t", skew, beat.sent, beat.received, err, beat.late)
			}
			if age := now.Sub(k.lastComplete()); !beat.late && age != beat.age {
				t.Errorf("skew %v: a heartbeat sent at %d and received at %d makes the set %v old, want %v", skew, beat.sent, beat.received, age, beat.age)
			}
		}
	}
}

// The first heartbeat is as old as the request, because the network may have delayed the heartbeat since the
// request.
func TestLateFirstHeartbeat(t *testing.T) {
	for _, after := range []time.Duration{15 * time.Second, 15*time.Second + time.Millisecond} {
		late := after > 15*time.Second
		asked := time.Now()
		now := asked.Add(after)
		k := newKnowledge()
		k.jump("e", 1)
		s := &stream{issuer: issuer, known: k, now: func() time.Time { return now }, asked: asked, maxLag: 15 * time.Second}
		err := s.applyBatch(&revocation.Batch{Issuer: issuer, IssuedAt: revocation.Seconds{Time: now.Round(0)}, Epoch: "e", After: 1, Seq: 1})
		if errors.Is(err, errLate) != late || late != k.lastComplete().IsZero() || !late && !k.lastComplete().Equal(asked) {
			t.Errorf("a first heartbeat %v after the request: %v, the set is of %v; want late %t, and otherwise the time of the request, %v", after, err, k.lastComplete(), late, asked)
		}
	}
}

package postgres_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/postgres"
	"github.com/tallygate/tallygate/issuer/store/storetest"
	"github.com/tallygate/tallygate/revocation"
)

// follow runs s.Follow until the end of the test.
func follow(t testing.TB, s *postgres.Store) *storetest.Reader {
	t.Helper()
	s.PollEvery(100 * time.Millisecond)
	r, _ := storetest.Follow(t, s)
	return r
}

func revoke(t testing.TB, s *postgres.Store, subject string) {
	t.Helper()
	if err := s.Revoke(store.Revocation{Kind: revocation.Application, Subject: subject, IssuedBy: at(1)}); err != nil {
		t.Fatal(err)
	}
}

// Revocations of one process arrive at another process: by notification, by the poll if there was no
// notification, and after its connection was ended.
func TestFollow(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	o := options(t, url)
	log := new(logged)
	a := open(t, o)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	b := open(t, o)
	revoke(t, a, "before")
	f := follow(t, b)
	f.WaitFor("before")
	revoke(t, a, "notified")
	f.WaitFor("notified")

	server.Exec(url.Database, `INSERT INTO tallygate.revocations (kind, subject, seq, client) VALUES (2, 'silent', 1000000, '')`, "UPDATE tallygate.revocation_head SET seq = 1000000") // without a notification
	f.WaitFor("silent")
	server.Exec(url.Database, "DELETE FROM tallygate.revocations WHERE seq = 1000000")

	for n := range 3 {
		server.Exec(url.Database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		subject := fmt.Sprint("cut ", n)
		for { // the connections of a were ended too
			err := a.Revoke(store.Revocation{Kind: revocation.Application, Subject: subject})
			if err == nil {
				break
			}
			if !errors.Is(err, store.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		f.WaitFor(subject)
	}
	if err := b.Current(); err != nil {
		t.Errorf("Current returned %v, want nil", err)
	}
	if text := log.String(); !contains(text, "revocations cannot be read from the database") || !contains(text, "revocations are read from the database again") {
		t.Errorf("the log is %s, want the lost connection and its end", text)
	}
}

// A reader that relies on sequence numbers misses no revocation, for any number of writing
// processes: a number is visible only after all lower numbers.
func TestCommitOrder(t *testing.T) {
	server := testpostgres.Shared(t)
	o := options(t, server.Database())
	const writers, each = 16, 50
	var wait sync.WaitGroup
	stores := []*postgres.Store{open(t, o), open(t, o)}
	followers := []*storetest.Reader{follow(t, open(t, o)), follow(t, open(t, o))}
	acknowledged := make([][each]time.Time, writers)
	for w := range writers {
		wait.Go(func() {
			for n := range each {
				if err := stores[w%2].Revoke(store.Revocation{Kind: revocation.Application, Subject: fmt.Sprint(w, " ", n)}); err != nil {
					t.Error(err)
				}
				acknowledged[w][n] = time.Now()
			}
		})
	}
	wait.Wait()
	var delays []time.Duration
	for _, f := range followers {
		for w := range writers {
			for n := range each {
				subject := fmt.Sprint(w, " ", n)
				f.WaitFor(subject)
				delays = append(delays, f.Seen(subject).Sub(acknowledged[w][n]))
			}
		}
	}
	slices.Sort(delays)
	t.Logf("%d revocations, from the acknowledgement to the other processes: p50 %s, p99 %s, longest %s", writers*each,
		delays[len(delays)/2], delays[len(delays)*99/100], delays[len(delays)-1])
}

// A clock that differs from the clock of the database is an error of Current, and LatestIssue is not
// before the iat of a token that another process may have issued.
func TestClock(t *testing.T) {
	server := testpostgres.Shared(t)
	o := options(t, server.Database())
	for name, off := range map[string]time.Duration{"agrees": 0, "ahead": 30 * time.Second, "behind": -30 * time.Second} {
		o.Now = func() time.Time { return time.Now().Add(off) }
		s := open(t, o)
		if err := s.Revocations(func(store.Revocation) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.Current(); (err == nil) != (off == 0) || err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: Current returned %v", name, err)
		}
		want := time.Now().Add(max(off, time.Second))
		latest, err := s.LatestIssue(o.Now())
		if latest.Before(want) || err != nil {
			t.Errorf("%s: LatestIssue returned %v, %v; want %v or later", name, latest, err, want)
		}
	}
}

// While every query is so slow that the clocks cannot be compared, the store decides nothing, because the clock may
// be further ahead than LatestIssue covers.
func TestClockUnknown(t *testing.T) {
	server := testpostgres.Shared(t)
	o := options(t, server.Database())
	var calls atomic.Int64
	o.Now = func() time.Time { // a query begins 0.9 s before the time of the database and ends 0.9 s after it
		if calls.Add(1)%2 == 1 {
			return time.Now().Add(-900 * time.Millisecond)
		}
		return time.Now().Add(900 * time.Millisecond)
	}
	s := open(t, o)
	if err := s.Revocations(func(store.Revocation) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Current(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Current returned %v, want ErrUnavailable", err)
	}
	if _, err := s.Sweep(time.Now()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Sweep returned %v, want ErrUnavailable", err)
	}
}

// The gate calls Current on every request.
func TestCurrentAllocations(t *testing.T) {
	s := open(t, options(t, testpostgres.Shared(t).Database()))
	if err := s.Revocations(func(store.Revocation) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = s.Current() }); n > 0 {
		t.Errorf("Current makes %v allocations, want 0", n)
	}
}

// After the database is restored while issuers run, numbers of revocations are used again. A reader that keeps its
// connection reads the log from its beginning then.
func TestRestore(t *testing.T) {
	const restored = "DELETE FROM tallygate.revocations; INSERT INTO tallygate.revocations (kind, subject, seq, client) VALUES (2, 'restored', 1, '');"
	for name, head := range map[string]string{
		"fewer revocations": "UPDATE tallygate.revocation_head SET seq = 1",
		"another epoch":     "UPDATE tallygate.revocation_head SET seq = 100, epoch = gen_random_uuid()",
	} {
		t.Run(name, func(t *testing.T) {
			server := testpostgres.Shared(t)
			url := server.Database()
			o := options(t, url)
			writer, reader := open(t, o), open(t, o)
			f := follow(t, reader)
			for n := range 5 {
				revoke(t, writer, fmt.Sprint(n))
				f.WaitFor(fmt.Sprint(n))
			}
			before := f.Sync()
			server.Exec(url.Database, restored+head)
			f.WaitFor("restored")
			revoke(t, writer, "after the restore")
			f.WaitFor("after the restore")
			if f.Sync() == before {
				t.Errorf("the pages have the epoch %s after the restore too, want another", before)
			}
		})
	}
}

// A connection that stalls without an error is replaced.
func TestStalledConnection(t *testing.T) {
	server := testpostgres.Start(t)
	url := server.Database()
	o := options(t, url)
	writer, reader := open(t, o), open(t, o)
	f := follow(t, reader)
	revoke(t, writer, "before")
	f.WaitFor("before")
	pid, err := strconv.Atoi(server.Value(url.Database, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT h.epoch%'"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	began := time.Now()
	revoke(t, writer, "stalled")
	f.WaitFor("stalled")
	t.Logf("known after %s, while the former connection is stalled", time.Since(began).Round(time.Millisecond))
}

// A process whose clock is wrong removes no revocations and no keys, and rotates none.
func TestClockOfWriter(t *testing.T) {
	server := testpostgres.Shared(t)
	url := server.Database()
	o := options(t, url)
	until := time.Now().Add(time.Hour)
	right := open(t, o)
	if err := right.Revoke(store.Revocation{Kind: revocation.Token, Subject: "token", Until: until}); err != nil {
		t.Fatal(err)
	}
	if err := right.AddToken(sum("token"), store.Token{Expires: until}); err != nil {
		t.Fatal(err)
	}
	o.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	wrong := open(t, o)
	if n, err := wrong.Sweep(o.Now()); n != 0 || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Sweep of a process whose clock is ahead returned %d, %v; want 0 and ErrUnavailable", n, err)
	}
	if err := wrong.ReplaceKeys(nil, []store.Key{{ID: "k", Private: []byte("p"), Created: o.Now()}}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("ReplaceKeys of a process whose clock is ahead returned %v, want ErrUnavailable", err)
	}
	if got := server.Value(url.Database, "SELECT (SELECT count(*) FROM tallygate.revocations) || ' ' || (SELECT count(*) FROM tallygate.tokens) || ' ' || (SELECT count(*) FROM tallygate.keys)"); got != "1 1 0" {
		t.Errorf("the database has %s revocations, tokens and keys; want 1 1 0", got)
	}
	if n, err := right.Sweep(time.Now()); n != 0 || err != nil {
		t.Errorf("Sweep of a process whose clock is right returned %d, %v; want 0 and nil", n, err)
	}
}

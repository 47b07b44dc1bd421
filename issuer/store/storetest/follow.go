package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// A Reader has what Follow of a store has delivered. It checks that each page continues the page before it.
type Reader struct {
	t        testing.TB
	mu       sync.Mutex
	last     store.Page
	epochs   int
	complete int // number of pages that say that a reading is complete
	held     map[string]store.Addition
	seen     map[string]time.Time // when a subject was first delivered
}

// Follow runs s.Follow until the end of the test, or until the returned function is called.
func Follow(t testing.TB, s Store) (r *Reader, stop func()) {
	t.Helper()
	r = &Reader{t: t, held: make(map[string]store.Addition), seen: make(map[string]time.Time)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx, r.take) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("Follow returned %v, want nil", err)
		}
	})
	t.Cleanup(stop)
	return r, stop
}

func (r *Reader) take(page store.Page) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if page.Epoch != r.last.Epoch {
		r.epochs++
		r.last = store.Page{Epoch: page.Epoch}
	}
	if page.After != r.last.Seq || page.Seq < page.After {
		r.t.Errorf("after the number %d comes a page from %d to %d with %d additions", r.last.Seq, page.After, page.Seq, len(page.Additions))
	}
	number := page.After
	for _, a := range page.Additions {
		if a.Seq <= number || a.Seq > page.Seq {
			r.t.Errorf("in a page from %d to %d, the number %d comes after %d", page.After, page.Seq, a.Seq, number)
		}
		number = a.Seq
		r.held[fmt.Sprint(a.Kind, a.Subject)] = a
		if r.seen[a.Subject].IsZero() {
			r.seen[a.Subject] = time.Now()
		}
	}
	if page.Seq == page.After {
		r.complete++
	}
	r.last = page
}

// Seen returns when the revocation of subject was delivered, or the zero time.
func (r *Reader) Seen(subject string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[subject]
}

// WaitFor waits until the revocation of subject is delivered.
func (r *Reader) WaitFor(subject string) {
	r.t.Helper()
	if !gatetest.Within(20*time.Second, func() bool { return !r.Seen(subject).IsZero() }) {
		r.t.Fatalf("the revocation of %s is not delivered", subject)
	}
}

// Sync waits until a reading that began after the call is complete, and returns the epoch.
func (r *Reader) Sync() (epoch string) {
	r.t.Helper()
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.complete
	}
	before := count()
	// The first page after the call may be of a reading that began before the call.
	if !gatetest.Within(20*time.Second, func() bool { return count() >= before+2 }) {
		r.t.Fatal("no complete reading is delivered")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last.Epoch
}

// CheckHeld checks that Follow has delivered to r every revocation of s, as Revocations returns it.
func (r *Reader) CheckHeld(s Store) {
	r.t.Helper()
	r.Sync()
	want := revocations(r.t, s)
	r.mu.Lock()
	defer r.mu.Unlock()
	got := make(map[string]store.Revocation, len(r.held))
	for id, a := range r.held {
		got[id] = a.Revocation
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("the pages of Follow differ from Revocations (-want +got):\n%s", diff)
	}
}

// Follow delivers the stored revocations and every acknowledged revocation of concurrent goroutines, in pages
// that continue each other.
func testFollow(t *testing.T, s Store) {
	store := func(subject string, issuedBy int64) {
		if err := s.Revoke(store.Revocation{Kind: revocation.Application, Subject: subject, IssuedBy: at(issuedBy)}); err != nil {
			t.Error(err)
		}
	}
	const before, writers, each = 1500, 16, 100 // before is more than a page
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for n := w; n < before; n += writers {
				store(fmt.Sprint("before ", n), 1)
			}
		})
	}
	wait.Wait()
	first, stop := Follow(t, s)
	first.CheckHeld(s)
	for w := range writers {
		wait.Go(func() {
			for n := range each {
				store(fmt.Sprint(w, " ", n), 1)
				store("extended "+strconv.Itoa(n%7), int64(w*each+n))
			}
		})
	}
	wait.Wait()
	first.Sync()
	for w := range writers {
		for n := range each {
			if subject := fmt.Sprint(w, " ", n); first.Seen(subject).IsZero() {
				t.Errorf("the revocation of %s was acknowledged before a complete reading and is not delivered", subject)
			}
		}
	}
	first.CheckHeld(s)
	if first.epochs != 1 {
		t.Errorf("the pages have %d epochs, want 1", first.epochs)
	}
	stop()
	store("later", 1)
	second, _ := Follow(t, s)
	second.CheckHeld(s)
}

// The pages continue each other although the last revocations of the log have expired.
func testFollowExpired(t *testing.T, s Store) {
	add := func(subject string, until int64) {
		if err := s.Revoke(store.Revocation{Kind: revocation.Application, Subject: subject, IssuedBy: at(1), Until: at(until)}); err != nil {
			t.Error(err)
		}
	}
	add("a", 10)
	add("b", 10)
	if n, err := s.Sweep(at(100)); n != 2 || err != nil {
		t.Fatalf("Sweep returned %d, %v; want 2", n, err)
	}
	r, stop := Follow(t, s)
	r.Sync()
	add("c", 1000)
	r.WaitFor("c")
	stop()
	r, _ = Follow(t, s)
	r.CheckHeld(s)
}

// An addition has the time at which the revocation was stored, and a revocation that is extended gets a later time.
func testStored(t *testing.T, s Store) {
	r, _ := Follow(t, s)
	r.Sync()
	var earlier time.Time
	for n := range 3 {
		if err := s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p", IssuedBy: at(int64(n))}); err != nil {
			t.Fatal(err)
		}
		r.Sync()
		r.mu.Lock()
		stored := r.held[fmt.Sprint(revocation.Partner, "p")].Stored
		r.mu.Unlock()
		if !stored.After(earlier) || time.Since(stored).Abs() > time.Minute {
			t.Errorf("the addition %d was stored at %v, want a time after %v, about now", n, stored, earlier)
		}
		earlier = stored
	}
}

// Package storetest checks the contract of every store of the issuer's state.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// A Store is a store under test.
type Store interface {
	Keys() ([]store.Key, error)
	ReplaceKeys(previous, keys []store.Key) error
	AddToken(sum [32]byte, token store.Token) error
	Token(sum [32]byte) (token store.Token, ok bool, err error)
	Revoke(store.Revocation) error
	Revocations(each func(store.Revocation) error) error
	Audit(before uint64, limit int) ([]store.AuditRecord, error)
	Follow(ctx context.Context, apply func(store.Page)) error
	Sweep(now time.Time) (int, error)
	Close() error
}

// Run checks the contract. open returns a new empty store, which it closes at the end of its test.
func Run(t *testing.T, open func(*testing.T) Store) {
	for name, test := range map[string]func(*testing.T, Store){
		"keys": testKeys, "replaced keys": testReplacedKeys, "tokens": testTokens, "merge": testMerge, "sweep": testSweep, "unstorable": testUnstorable,
		"reentered": testReentered, "many": testMany, "closing": testClosing, "closed": testClosed,
		"follow": testFollow, "follow expired": testFollowExpired, "stored": testStored, "audit": testAudit, "audit texts": testAuditTexts,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// Keys are returned in the order of their creation, and ReplaceKeys removes the keys before.
func testKeys(t *testing.T, s Store) {
	if keys, err := s.Keys(); len(keys) != 0 || err != nil {
		t.Errorf("Keys of a new state returned %v, %v; want none", keys, err)
	}
	before := []store.Key{{ID: "old", Created: at(1)}, {ID: "older", Created: at(0)}, {ID: "oldest"}}
	if err := errors.Join(
		s.ReplaceKeys(nil, before),
		s.ReplaceKeys(before, []store.Key{{ID: "late", Created: at(5)}, {ID: "early", Created: at(4).In(time.FixedZone("", 7200))}}),
	); err != nil {
		t.Fatal(err)
	}
	keys, err := s.Keys()
	if diff := cmp.Diff([]store.Key{{ID: "early", Created: at(4)}, {ID: "late", Created: at(5)}}, keys); diff != "" || err != nil {
		t.Errorf("Keys returned %v (-want +got):\n%s", err, diff)
	}
}

// ReplaceKeys replaces only the keys that the caller has read, so that of two processes that rotate
// at the same time only one succeeds.
func testReplacedKeys(t *testing.T, s Store) {
	first := []store.Key{{ID: "a", Algorithm: "ES256", Private: []byte{1, 0xff}, Created: at(1), Activated: at(1)}, {ID: "b", Algorithm: "EdDSA", Private: []byte{2}, Created: at(1)}}
	if err := s.ReplaceKeys(nil, first); err != nil {
		t.Fatal(err)
	}
	retired := []store.Key{{ID: "a", Retired: at(2), Activated: at(1)}, {ID: "b"}}
	for name, previous := range map[string][]store.Key{
		"none": nil, "one fewer": first[:1], "another": {first[0], {ID: "c"}}, "an earlier state": retired,
	} {
		if err := s.ReplaceKeys(previous, []store.Key{{ID: "lost"}}); !errors.Is(err, store.ErrChanged) {
			t.Errorf("ReplaceKeys of %s returned %v, want ErrChanged", name, err)
		}
	}
	keys, err := s.Keys()
	if diff := cmp.Diff(first, keys); diff != "" || err != nil {
		t.Errorf("Keys returned %v (-want +got):\n%s", err, diff)
	}
}

// A token is stored once and is found by its sum only.
func testTokens(t *testing.T, s Store) {
	token := store.Token{Client: "c", Expires: at(100), Record: []byte(`{"a":1}`)}
	var wait sync.WaitGroup
	var exists atomic.Int64
	for n := range 200 {
		wait.Go(func() {
			err := s.AddToken(sum(strconv.Itoa(n%100)), token)
			if errors.Is(err, store.ErrExists) {
				exists.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := exists.Load(); got != 100 {
		t.Errorf("AddToken returned ErrExists %d times, want 100 of 200", got)
	}
	got, ok, err := s.Token(sum("1"))
	if diff := cmp.Diff(token, got); diff != "" || !ok || err != nil {
		t.Errorf("Token returned %t, %v (-want +got):\n%s", ok, err, diff)
	}
	if _, ok, err := s.Token(sum("other")); ok || err != nil {
		t.Errorf("Token for an unknown sum returned %t, %v; want false", ok, err)
	}
}

// Two revocations of one subject are merged: the later times and the first client are kept, and
// a zero Until is never.
func testMerge(t *testing.T, s Store) {
	never := time.Time{}
	for name, c := range map[string]struct{ issued, until, thenIssued, thenUntil, wantIssued, wantUntil time.Time }{
		"later":         {at(1), at(2), at(3), at(4), at(3), at(4)},
		"earlier":       {at(3), at(4), at(1), at(2), at(3), at(4)},
		"crossed":       {at(3), at(2), at(1), at(4), at(3), at(4)},
		"never, then":   {at(1), never, at(1), at(9), at(1), never},
		"then never":    {at(1), at(9), at(1), never, at(1), never},
		"same":          {at(1), at(2), at(1), at(2), at(1), at(2)},
		"unset and set": {never, at(2), at(1), at(2), at(1), at(2)},
	} {
		r := store.Revocation{Kind: revocation.Partner, Subject: name, Client: "first", IssuedBy: c.issued, Until: c.until}
		if err := s.Revoke(r); err != nil {
			t.Fatal(err)
		}
		r.Client, r.IssuedBy, r.Until = "second", c.thenIssued, c.thenUntil
		if err := s.Revoke(r); err != nil {
			t.Fatal(err)
		}
		want := store.Revocation{Kind: revocation.Partner, Subject: name, Client: "first", IssuedBy: c.wantIssued, Until: c.wantUntil}
		if diff := cmp.Diff(want, revocations(t, s)[fmt.Sprint(want.Kind, name)]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Sweep removes expired records and returns their number. A merged revocation expires at its
// later Until.
func testSweep(t *testing.T, s Store) {
	r := store.Revocation{Kind: revocation.Application, Subject: "app", Until: at(100)}
	longer := r
	longer.Until = at(200)
	if err := errors.Join(
		s.AddToken(sum("a"), store.Token{Expires: at(100)}), s.AddToken(sum("b"), store.Token{Expires: at(200)}),
		s.Revoke(r), s.Revoke(longer), s.Revoke(r),
		s.Revoke(store.Revocation{Kind: revocation.Certificate, Subject: "x5t", Until: at(100)}),
		s.Revoke(store.Revocation{Kind: revocation.Certificate, Subject: "x5t"}), // without an end
	); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ now, gone int64 }{{100, 0}, {101, 1}, {101, 0}, {200, 0}, {201, 2}, {1 << 33, 0}} {
		if n, err := s.Sweep(at(c.now)); n != int(c.gone) || err != nil {
			t.Errorf("Sweep at %d returned %d, %v; want %d", c.now, n, err, c.gone)
		}
	}
	if left := revocations(t, s); len(left) != 1 {
		t.Errorf("after Sweep the state has %v, want none", left)
	}
	if err := s.AddToken(sum("a"), store.Token{Expires: at(300)}); err != nil {
		t.Errorf("AddToken of a swept token returned %v, want nil", err)
	}
}

// A revocation with an invalid subject is an error for its caller only.
func testUnstorable(t *testing.T, s Store) {
	done := make(chan error)
	for n := range 50 {
		go func() { done <- s.AddToken(sum(strconv.Itoa(n)), store.Token{}) }()
		go func() {
			err := s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: strings.Repeat("x", 40_000)})
			if err == nil || errors.Is(err, store.ErrUnavailable) {
				done <- fmt.Errorf("a subject of 40,000 bytes: Revoke returned %w, want a lasting error", err)
				return
			}
			done <- nil
		}()
	}
	for range 100 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The callback of Revocations may use the state, and its error stops the iteration.
func testReentered(t *testing.T, s Store) {
	for n := range 20 {
		if err := s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: strconv.Itoa(n)}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		n := 0
		done <- s.Revocations(func(store.Revocation) error {
			n++ // the file outgrows the 32 KiB that are mapped at first
			return s.AddToken(sum(strconv.Itoa(n)), store.Token{Record: make([]byte, 20_000)})
		})
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Revocations and its callback deadlock")
	}
	enough, n := errors.New("enough"), 0
	if err := s.Revocations(func(store.Revocation) error { n++; return enough }); !errors.Is(err, enough) || n != 1 {
		t.Errorf("Revocations returned %v after %d calls, want the callback's error after 1", err, n)
	}
}

// Revocations returns every revocation once.
func testMany(t *testing.T, s Store) {
	const many = 2001 // two full pages of Revocations and one revocation more
	done := make(chan error)
	for n := range many {
		go func() {
			done <- s.Revoke(store.Revocation{Kind: revocation.Application, Subject: strconv.Itoa(n), Until: at(1)})
		}()
	}
	for range many {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[string]int)
	err := s.Revocations(func(r store.Revocation) error { seen[r.Subject]++; return nil })
	if len(seen) != many || err != nil {
		t.Errorf("Revocations returned %d revocations, %v; want %d", len(seen), err, many)
	}
	for subject, n := range seen {
		if n != 1 {
			t.Errorf("Revocations returned %s %d times, want once", subject, n)
		}
	}
}

// A write during Close succeeds or returns ErrClosed.
func testClosing(t *testing.T, s Store) {
	const writers = 16
	begun, done := make(chan bool, writers), make(chan error)
	for worker := range writers {
		go func() {
			var err error
			for n := 0; err == nil; n++ {
				err = s.AddToken(sum(fmt.Sprint(worker, " ", n)), store.Token{})
				select {
				case begun <- true:
				default:
				}
			}
			done <- err
		}()
	}
	for range writers {
		<-begun
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range writers {
		if err := <-done; !errors.Is(err, store.ErrClosed) {
			t.Error(err)
		}
	}
}

// Methods of a closed state return ErrClosed, and a second Close returns nil.
func testClosed(t *testing.T, s Store) {
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	_, keys := s.Keys()
	_, _, token := s.Token(sum("a"))
	_, sweep := s.Sweep(at(1))
	_, audit := s.Audit(0, 1)
	for name, err := range map[string]error{
		"Keys": keys, "Token": token, "Sweep": sweep, "ReplaceKeys": s.ReplaceKeys(nil, nil),
		"AddToken":    s.AddToken(sum("a"), store.Token{}),
		"Revoke":      s.Revoke(store.Revocation{Kind: revocation.Partner, Subject: "p"}),
		"Revocations": s.Revocations(func(store.Revocation) error { return nil }), "Audit": audit,
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s on a closed state returned %v, want ErrClosed", name, err)
		}
	}
}

func sum(text string) [32]byte { return sha256.Sum256([]byte(text)) }

// at returns a time of whole seconds, which every store keeps.
func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// revocations returns the revocations in s by kind and subject.
func revocations(t testing.TB, s Store) map[string]store.Revocation {
	t.Helper()
	all := make(map[string]store.Revocation)
	err := s.Revocations(func(r store.Revocation) error {
		all[fmt.Sprint(r.Kind, r.Subject)] = r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

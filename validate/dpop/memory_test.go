package dpop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// numbered returns a proof in the shard n modulo 16 that is valid for a minute.
func numbered(n int, now time.Time) Proof {
	p := Proof{until: now.Add(time.Minute)}
	p.id[0] = byte(n % shards)
	binary.BigEndian.PutUint64(p.id[8:], uint64(n))
	return p
}

// forget makes each shard of c forget what has expired at that time, by new proofs of borealis.
func forget(c *Checker, at time.Time) error {
	for n := range shards {
		if err := c.Record(numbered(n, at), "borealis", at); err != nil {
			return err
		}
	}
	return nil
}

// RFC 9449 section 11.1: a proof counts once, as long as it could be accepted.
func TestReplay(t *testing.T) {
	now := time.Now()
	c, s := New(settings(), nil, now), testpki.NewSigner("ES256", "")
	r := request(s.Proof(good(M{"iat": now.Unix() + 4}))) // the client's clock is ahead
	use := func(c *Checker, at time.Time) error {
		t.Helper()
		p, err := c.Check(r, at)
		if err != nil {
			return err
		}
		return c.Record(p, "northwind", at)
	}
	if err := use(c, now); err != nil {
		t.Fatalf("the first use returned %v, want nil", err)
	}
	next := New(settings(), c, now)
	for _, later := range []time.Duration{0, time.Second, 30 * time.Second, 63 * time.Second} {
		if err := use(c, now.Add(later)); !errors.Is(err, ErrReplayed) {
			t.Errorf("after %s: %v, want ErrReplayed", later, err)
		}
		if err := use(next, now.Add(later)); !errors.Is(err, ErrReplayed) {
			t.Errorf("after %s and a reload: %v, want ErrReplayed", later, err)
		}
	}
	if err := use(c, now.Add(66*time.Second)); !errors.Is(err, ErrInvalid) {
		t.Errorf("after max_age: %v, want ErrInvalid", err)
	}
	// Another proof with the same jti is a replay only with the same key.
	id := good()["jti"]
	for _, signer := range []*testpki.Signer{s, testpki.NewSigner("ES256", "")} {
		r = request(signer.Proof(good(M{"jti": id})))
		if err := use(c, now); err != nil {
			t.Errorf("a jti with a key of its own: %v, want nil", err)
		}
	}
	r = request(s.Proof(good(M{"jti": id, "extra": 1})))
	if err := use(c, now); !errors.Is(err, ErrReplayed) {
		t.Errorf("the same jti in another proof of the key: %v, want ErrReplayed", err)
	}
}

// A longer max_age revives no proof that was used, forgotten and refused by the shorter max_age.
func TestReplayAfterLongerMaxAge(t *testing.T) {
	now := time.Now()
	short := func(s *config.DPoP) { s.MaxAge = 10 * time.Second }
	long := func(s *config.DPoP) { s.MaxAge = 5 * time.Minute }
	c, s := New(settings(short), nil, now), testpki.NewSigner("ES256", "")
	r := request(s.Proof(good(M{"iat": now.Unix()})))
	p, err := c.Check(r, now)
	if err != nil || c.Record(p, "northwind", now) != nil {
		t.Fatalf("the first use: %v, want nil", err)
	}
	New(settings(func(s *config.DPoP) { s.MaxAge = time.Second }), c, now) // a failed reload makes this memory
	c = New(settings(long), c, now.Add(2*time.Second))
	for _, later := range []time.Duration{3, 20, 120} {
		at := now.Add(later * time.Second)
		for range 2 * shards { // each shard forgets what has expired
			other, err := c.Check(request(s.Proof(good(M{"iat": at.Unix()}))), at)
			if err != nil || c.Record(other, "northwind", at) != nil {
				t.Fatalf("another proof: %v, want nil", err)
			}
		}
		if p, err = c.Check(r, at); err == nil {
			err = c.Record(p, "northwind", at)
		}
		if !errors.Is(err, ErrReplayed) && !errors.Is(err, ErrInvalid) {
			t.Errorf("%d s later: %v, want ErrReplayed or ErrInvalid", later, err)
		}
	}
	fresh := now.Add(200 * time.Second)
	if _, err := c.Check(request(s.Proof(good(M{"iat": fresh.Add(-4 * time.Minute / 2).Unix()}))), fresh); err != nil {
		t.Errorf("a proof made after the reload, two minutes old: %v, want nil", err)
	}
}

// A reload that shortens leeway, and soon after it another that lengthens max_age, revive no proof that
// was made ahead of the clock.
func TestReplayAfterShorterLeeway(t *testing.T) {
	now := time.Unix(time.Now().Unix(), 0)
	age := func(maxAge, leeway time.Duration) config.DPoP {
		return settings(func(s *config.DPoP) { s.MaxAge, s.Leeway = maxAge, leeway })
	}
	c, s := New(age(5*time.Second, time.Minute), nil, now), testpki.NewSigner("ES256", "")
	r := request(s.Proof(good(M{"iat": now.Unix() + 60})))
	p, err := c.Check(r, now)
	if err != nil || c.Record(p, "northwind", now) != nil {
		t.Fatalf("the first use: %v, want nil", err)
	}
	c = New(age(5*time.Second, 0), c, now.Add(time.Second))
	c = New(age(5*time.Minute, 0), c, now.Add(2*time.Second))
	at := now.Add(70 * time.Second)
	if err := forget(c, at); err != nil {
		t.Fatal(err)
	}
	if p, err = c.Check(r, at); err == nil {
		err = c.Record(p, "northwind", at)
	}
	if !errors.Is(err, ErrReplayed) && !errors.Is(err, ErrInvalid) {
		t.Errorf("70 s later: %v, want ErrReplayed or ErrInvalid", err)
	}
	// A short max_age does not stay in force for ever.
	at = now.Add(time.Hour)
	c = New(age(5*time.Minute, 0), c, at)
	if _, err := c.Check(request(s.Proof(good(M{"iat": at.Unix() - 60}))), at); err != nil {
		t.Errorf("a proof of a minute, an hour later: %v, want nil", err)
	}
}

// A request may wait for introspection between Check and Record. Meanwhile other requests make the memory
// forget the first use of its proof, which could count again.
func TestReplayBySlowRequest(t *testing.T) {
	now := time.Unix(time.Now().Unix(), 0)
	c, s := New(settings(), nil, now), testpki.NewSigner("ES256", "")
	r := request(s.Proof(good(M{"iat": now.Unix() + 5})))
	p, err := c.Check(r, now)
	if err != nil || c.Record(p, "northwind", now) != nil {
		t.Fatalf("the first use: %v, want nil", err)
	}
	begin := now.Add(65 * time.Second) // the last moment of the proof
	if p, err = c.Check(r, begin); err != nil {
		t.Fatal(err)
	}
	if err := forget(c, begin.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := c.Record(p, "northwind", begin); !errors.Is(err, ErrInvalid) {
		t.Errorf("the second use: %v, want ErrInvalid", err)
	}
	// The clock is set back: the proof looks young again.
	if p, err = c.Check(r, now.Add(30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := c.Record(p, "northwind", now.Add(30*time.Second)); !errors.Is(err, ErrInvalid) {
		t.Errorf("the third use, after the clock was set back: %v, want ErrInvalid", err)
	}
}

// A reload that fails changes nothing: the previous Checker goes on, and its proofs are remembered for
// its own max_age.
func TestReplayAfterFailedReload(t *testing.T) {
	now := time.Now()
	c, s := New(settings(), nil, now), testpki.NewSigner("ES256", "")
	New(settings(func(s *config.DPoP) { s.MaxAge, s.Leeway, s.Proofs = time.Second, 0, 1 }), c, now)
	r := request(s.Proof(good(M{"iat": now.Unix()})))
	p, err := c.Check(r, now)
	if err != nil || c.Record(p, "northwind", now) != nil {
		t.Fatalf("the first use: %v, want nil", err)
	}
	if err := c.Record(p, "northwind", now.Add(50*time.Second)); !errors.Is(err, ErrReplayed) {
		t.Errorf("50 s later: %v, want ErrReplayed", err)
	}
}

// Exactly one of many uses of a proof at once counts.
func TestReplayRace(t *testing.T) {
	now := time.Now()
	c := New(settings(), nil, now)
	p, err := c.Check(request(testpki.NewSigner("ES256", "").Proof(good())), now)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 50 {
		p.id[1] = byte(round)
		var granted atomic.Int32
		var uses sync.WaitGroup
		for range 16 {
			uses.Go(func() {
				switch err := c.Record(p, "northwind", now); {
				case err == nil:
					granted.Add(1)
				case !errors.Is(err, ErrReplayed):
					t.Errorf("Record returned %v, want ErrReplayed", err)
				}
			})
		}
		uses.Wait()
		if granted.Load() != 1 {
			t.Fatalf("%d uses counted, want 1", granted.Load())
		}
	}
}

// One partner fills half, all together fill the memory, and nothing is forgotten before its time.
func TestMemoryBounds(t *testing.T) {
	const entries = 32 * shards
	now := time.Now()
	m := newMemory()
	m.keepFor(time.Minute)
	fill := func(owner string, from int, want error) (added int) {
		t.Helper()
		for n := from; n < from+entries; n++ {
			err := m.add(numbered(n, now), owner, now, entries)
			if err == nil {
				added++
			} else if !errors.Is(err, want) {
				t.Fatalf("add for %s returned %v, want %v", owner, err, want)
			}
		}
		return added
	}
	if got := fill("northwind", 0, ErrShare); got != entries/2 {
		t.Errorf("one partner has %d entries, want %d", got, entries/2)
	}
	if got := fill("borealis", entries, ErrFull); got != entries/2 || m.len() != entries {
		t.Errorf("the second partner has %d entries of %d, want %d of %d", got, m.len(), entries/2, entries)
	}
	if got := fill("southridge", 2*entries, ErrFull); got != 0 {
		t.Errorf("a third partner has %d entries, want 0", got)
	}
	for n := range entries / 2 {
		if err := m.add(numbered(n, now), "southridge", now.Add(time.Minute), entries); !errors.Is(err, ErrReplayed) {
			t.Fatalf("entry %d after a minute: %v, want ErrReplayed", n, err)
		}
	}
	now = now.Add(time.Minute + 1)
	if got := fill("southridge", 0, ErrShare); got != entries/2 || m.len() != entries/2 {
		t.Errorf("after the window a partner has %d entries of %d, want %d of %d", got, m.len(), entries/2, entries/2)
	}
}

// An entry takes about 130 bytes, and expired entries give their memory back.
func TestMemorySize(t *testing.T) {
	const entries = 100_000
	heap := func() int64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before, now := heap(), time.Now()
	m := newMemory()
	m.keepFor(time.Minute)
	for n := range entries {
		if err := m.add(numbered(n, now), fmt.Sprint("partner ", n%4), now, 2*entries); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / entries; each > 200 {
		t.Errorf("an entry takes %d bytes, want at most 200", each)
	}
	now = now.Add(2 * time.Minute)
	for n := range shards {
		if err := m.add(numbered(entries+n, now), "northwind", now, 2*entries); err != nil {
			t.Fatal(err)
		}
	}
	if left := heap() - before; m.len() != shards || left > 1<<20 {
		t.Errorf("%d entries and %d bytes after the window, want %d and at most 1 MiB", m.len(), left, shards)
	}
	runtime.KeepAlive(m)
}

// len returns the number of entries, including expired entries.
func (m *memory) len() (n int) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.seen)
		s.mu.Unlock()
	}
	return n
}

package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var (
	start = time.Unix(1_800_000_000, 0)
	later = start.Add(time.Hour)
)

func counter() prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{}) }

func keyOf(i int) Key { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) }

// has returns how many values with numbers in [from, to) the cache has.
func has(c *Cache[int], from, to int) (n int) {
	for i := from; i < to; i++ {
		if got, ok := c.Get(keyOf(i)); ok && got == i {
			n++
		}
	}
	return n
}

// T-INT-09: the key is the whole sum. The two keys share their first 31 bytes, so any shorter
// hash of them would be equal.
func TestWholeKey(t *testing.T) {
	c := New[string](NewPool(1<<20), 100, counter())
	one, two := Key{31: 1}, Key{31: 2}
	c.Add(one, "one", "a", 10, later)
	if got, ok := c.Get(two); ok {
		t.Errorf("Get of a key that was not added = %q, want no value", got)
	}
	c.Add(two, "two", "a", 10, later)
	for key, want := range map[Key]string{one: "one", two: "two"} {
		if got, ok := c.Get(key); !ok || got != want {
			t.Errorf("Get(%x) = %q, want %q", key, got, want)
		}
	}
	c.Remove(one)
	if _, ok := c.Get(one); ok || c.Len() != 1 {
		t.Errorf("after Remove: Get finds the value or Len() = %d, want 1", c.Len())
	}
}

// The number of entries is bounded for each cache separately, and a nil cache stores nothing.
func TestMaxEntries(t *testing.T) {
	pool, evictions := NewPool(1<<20), counter()
	other := New[int](pool, 1000, counter())
	other.Add(keyOf(0), 0, "a", 10, later)
	for _, entries := range []int{1, 5, 16, 40} {
		c := New[int](pool, entries, evictions)
		before := testutil.ToFloat64(evictions)
		for i := range 500 {
			c.Add(keyOf(i), i, "a", 10, later)
		}
		if n := c.Len(); n > entries || n < entries-15 || n == 0 {
			t.Errorf("Len() = %d, want %d", n, entries)
		}
		if n := int(testutil.ToFloat64(evictions) - before); n != 500-c.Len() {
			t.Errorf("%d evictions and %d entries, want 500 together", n, c.Len())
		}
		c.Clear()
	}
	if other.Len() != 1 {
		t.Error("an entry of another cache was evicted, want it kept")
	}
	none := New[int](pool, 0, evictions)
	none.Add(Key{}, 1, "a", 10, later)
	none.Remove(Key{})
	none.Clear()
	if _, ok := none.Get(Key{}); ok || none.Len() != 0 {
		t.Error("Get of a nil cache found a value, want none")
	}
}

// T-ADD-04: an owner fills its share over all caches and no more, and then evicts its own
// entries.
func TestShareOfOwner(t *testing.T) {
	pool := NewPool(1 << 20)
	one, two := New[int](pool, 1e6, counter()), New[int](pool, 1e6, counter())
	for i := range 100 {
		one.Add(keyOf(i), i, "honest", 1000, later)
	}
	for i := 1000; i < 11_000; i++ {
		one.Add(keyOf(i), i, "hostile", 1000, later)
		two.Add(keyOf(i), i, "hostile", 3000, later)
	}
	hostile := pool.Bytes() - 100*(1000+overhead)
	if hostile > 1<<19 || hostile < 1<<18 {
		t.Errorf("Bytes() = %d for one owner, want half of 1 MiB", hostile)
	}
	if n := has(one, 0, 100); n != 100 {
		t.Errorf("%d entries of the other owner are left, want 100", n)
	}
	if one.Len() == 100 || two.Len() == 0 {
		t.Errorf("Len() = %d and %d, want entries in both caches", one.Len(), two.Len())
	}
	// Ten more owners fill the pool, and every owner ends with the same number of entries: 1 MiB
	// / 12 / 1400 bytes are 62.
	for i := 20_000; i < 40_000; i++ {
		one.Add(keyOf(i), i, string(rune('A'+i%10)), 1000, later)
	}
	if bytes := pool.Bytes(); bytes > 1<<20 {
		t.Errorf("Bytes() = %d, want at most 1 MiB", bytes)
	}
	if n := has(one, 0, 100); n < 40 || n > 90 {
		t.Errorf("%d entries of the first owner are left, want about as many as other owners have", n)
	}
}

// T-ADD-04: a value that is too large is not stored and evicts no other value, but removes the
// older value for its key.
func TestLargeValue(t *testing.T) {
	c := New[int](NewPool(1<<20), 1000, counter())
	c.Add(keyOf(1), 1, "a", 10, later)
	c.Add(keyOf(2), 2, "a", MaxEntry, later)
	c.Add(keyOf(3), 3, "a", MaxEntry+1, later)
	if n := has(c, 1, 4); n != 2 {
		t.Errorf("Len() = %d, want 2", n)
	}
	c.Add(keyOf(1), 1, "a", MaxEntry+1, later)
	if n := has(c, 1, 4); n != 1 {
		t.Errorf("Len() = %d, want 1", n)
	}
	tiny := New[int](NewPool(1<<14), 1000, counter()) // shards of 1 KiB
	tiny.Add(keyOf(1), 1, "a", 600, later)
	tiny.Add(keyOf(2), 2, "a", 100, later)
	if n := has(tiny, 1, 3); n != 1 {
		t.Errorf("Len() = %d in a tiny pool, want 1", n)
	}
}

// Entries that are looked up stay longer than unused entries.
func TestUsedEntriesStay(t *testing.T) {
	c := New[int](NewPool(1<<20), 16, counter()) // one entry for each index
	one := New[int](NewPool(1<<20), 4*16, counter())
	key := func(i byte) Key { return Key{0, i} } // all in one index
	for i := range byte(100) {
		one.Add(key(i), int(i), "a", 10, later)
		c.Add(key(i), int(i), "a", 10, later)
		if _, ok := one.Get(key(0)); !ok {
			t.Fatalf("a used entry was evicted after %d additions, want it kept", i)
		}
	}
	if one.Len() != 4 || c.Len() != 1 {
		t.Errorf("Len() = %d and %d, want 4 and 1", one.Len(), c.Len())
	}
}

// Sweep removes expired entries.
func TestSweep(t *testing.T) {
	pool := NewPool(1 << 20)
	c := New[int](pool, 1000, counter())
	for i := range 100 {
		c.Add(keyOf(i), i, "a", 10, start.Add(time.Duration(i)*time.Second))
	}
	pool.Sweep(start.Add(40 * time.Second))
	if n := c.Len(); n != 59 || has(c, 41, 100) != 59 {
		t.Errorf("Len() = %d, want 59", n)
	}
	pool.Sweep(later)
	if c.Len() != 0 || pool.Bytes() != 0 {
		t.Errorf("Len() = %d and Bytes() = %d, want 0", c.Len(), pool.Bytes())
	}
	for i := range pool.shards {
		if s := &pool.shards[i]; len(s.queues)+len(s.bytesByOwner) > 0 {
			t.Errorf("%d queues and %d owners are left, want none", len(s.queues), len(s.bytesByOwner))
		}
	}
}

// Shrink removes half of a full pool, and leaves a pool that is filled to a quarter.
func TestShrink(t *testing.T) {
	pool := NewPool(1 << 20)
	c := New[int](pool, 1e6, counter())
	for i := range 2000 {
		c.Add(keyOf(i), i, string(rune('a'+i%4)), 1000, later)
	}
	before := pool.Bytes()
	if !pool.Shrink() || pool.Bytes() > before/2 {
		t.Errorf("Bytes() = %d after Shrink, %d before; want half", pool.Bytes(), before)
	}
	for pool.Shrink() {
	}
	if bytes := pool.Bytes(); bytes > 1<<18 || bytes < 1<<17 {
		t.Errorf("Bytes() = %d, want between 1/8 and 1/4 of 1 MiB", bytes)
	}
}

// The counted bytes are at least the bytes on the heap.
func TestOverhead(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, n := range []int{20_000, 29_000, 57_000} { // maps are emptiest right after they grow
		before := heap()
		pool := NewPool(1 << 30)
		c := New[*[100]byte](pool, 1e6, counter())
		for i := range n {
			c.Add(keyOf(i), new([100]byte), "a", 112, later)
		}
		used, counted := heap()-before, pool.Bytes()
		t.Logf("%d entries: %d bytes each, counted as %d", n, used/int64(n), counted/int64(n))
		if used > counted {
			t.Errorf("%d entries take %d bytes, want at most the %d that are counted", n, used, counted)
		}
		runtime.KeepAlive(c)
	}
}

// A look-up does not allocate.
func TestAllocations(t *testing.T) {
	c := New[*int](NewPool(1<<20), 1000, counter())
	c.Add(keyOf(1), new(int), "a", 8, later)
	if n := testing.AllocsPerRun(100, func() { c.Get(keyOf(1)) }); n > 1 { // keyOf allocates once
		t.Errorf("Get makes %v allocations, want at most 1", n)
	}
}

// The race detector sees all operations at the same time.
func TestConcurrentUse(t *testing.T) {
	pool := NewPool(1 << 16)
	one, two := New[int](pool, 100, counter()), New[int](pool, 1e6, counter())
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 2000 {
				one.Add(keyOf(i), i, "a", 100, later)
				two.Add(keyOf(i), i, string(rune('a'+g)), 200, start)
				if v, ok := one.Get(keyOf(i / 2)); ok && v != i/2 {
					t.Errorf("Get = %d, want %d", v, i/2)
				}
				two.Remove(keyOf(i / 3))
			}
		})
	}
	for range 20 {
		pool.Sweep(start)
		pool.Shrink()
		pool.Resize(1 << 15)
		_ = two.Len()
	}
	group.Wait()
	one.Clear()
	two.Clear()
	if n := pool.Bytes(); n != 0 {
		t.Errorf("Bytes() = %d after everything expired, want 0", n)
	}
}

func BenchmarkGet(b *testing.B) {
	c := New[*int](NewPool(1<<28), 1e6, counter())
	keys := make([]Key, 10_000)
	for i := range keys {
		keys[i] = keyOf(i)
		c.Add(keys[i], new(int), "a", 8, later)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Get(keys[i%len(keys)])
	}
}

// In a full pool with a thousand owners, each Add searches for the longest queue.
func BenchmarkAddToFull(b *testing.B) {
	c := New[int](NewPool(57<<20), 1e6, counter())
	owners := make([]string, 1000)
	for i := range owners {
		owners[i] = string(rune(i + 1000))
	}
	for i := range 100_000 {
		c.Add(keyOf(i), i, owners[i%len(owners)], 700, later)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Add(keyOf(i+1e6), i, owners[i%len(owners)], 700, later)
	}
}

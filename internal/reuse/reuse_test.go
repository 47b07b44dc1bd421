package reuse

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// A thing is a value whose creation and closing a test can count.
type thing struct {
	name, key string
	previous  *thing
	closed    atomic.Int32
}

// acquire acquires a thing and reports in closed, which may be nil, when it is closed.
func acquire(t *testing.T, l *Lease, name, key string, closed *[]string) *thing {
	t.Helper()
	got, err := Acquire(l, name, []string{key}, func(previous *thing) (*thing, error) {
		return &thing{name: name, key: key, previous: previous}, nil
	}, func(v *thing) {
		v.closed.Add(1)
		if closed != nil {
			*closed = append(*closed, v.name+" "+v.key)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// The next lease shares what has the same name and an equal key, and gets the value of the same name for
// another key as the previous value. The last release closes a value, once.
func TestAcquire(t *testing.T) {
	var pool Pool
	first := pool.Lease()
	same, changed, gone := acquire(t, first, "same", "1", nil), acquire(t, first, "changed", "1", nil), acquire(t, first, "gone", "1", nil)
	next := pool.Lease()
	if got := acquire(t, next, "same", "1", nil); got != same {
		t.Errorf("Acquire for an equal key = %p, want the value of the first lease, %p", got, same)
	}
	edited := acquire(t, next, "changed", "2", nil)
	if edited == changed || edited.previous != changed {
		t.Errorf("Acquire for another key = %p with the previous value %p, want a new value with %p", edited, edited.previous, changed)
	}
	if got := acquire(t, next, "new", "1", nil); got.previous != nil {
		t.Errorf("Acquire of a new name got the previous value %v, want none", got.previous)
	}
	for range 2 { // a second Release does nothing
		first.Release()
		for _, c := range []struct {
			of   *thing
			want int32
		}{{same, 0}, {changed, 1}, {gone, 1}, {edited, 0}} {
			if got := c.of.closed.Load(); got != c.want {
				t.Errorf("after the release of the first lease, %s %s was closed %d times, want %d", c.of.name, c.of.key, got, c.want)
			}
		}
	}
	next.Release()
	if same.closed.Load() != 1 || edited.closed.Load() != 1 || changed.closed.Load() != 1 {
		t.Errorf("after the last release, the values were closed %d, %d and %d times, want once each", same.closed.Load(), edited.closed.Load(), changed.closed.Load())
	}
	if len(pool.entries) > 0 {
		t.Errorf("the pool has %d names after the last release, want 0", len(pool.entries))
	}
}

// A reload that fails releases what it acquired: its own values are closed, and the values that it shared
// with the configuration in use stay open, and are found by the next attempt.
func TestFailedBuild(t *testing.T) {
	var pool Pool
	current := pool.Lease()
	used := acquire(t, current, "same", "1", nil)
	failed := pool.Lease()
	acquire(t, failed, "same", "1", nil)
	made := acquire(t, failed, "other", "1", nil)
	broken := errors.New("broken")
	closed := false
	got, err := Acquire(failed, "broken", []string{"1"}, func(*thing) (*thing, error) { return &thing{}, broken }, func(*thing) { closed = true })
	if got != nil || !errors.Is(err, broken) {
		t.Errorf("Acquire with a failing open = %v, %v, want nil and the error of open", got, err)
	}
	failed.Release()
	if closed || made.closed.Load() != 1 || used.closed.Load() != 0 {
		t.Errorf("closed: the value that failed to open %t, the new value %d times, the shared value %d times; want false, 1, 0", closed, made.closed.Load(), used.closed.Load())
	}
	again := pool.Lease()
	if got := acquire(t, again, "same", "1", nil); got != used {
		t.Errorf("Acquire after a failed build = %p, want the value in use, %p", got, used)
	}
	if got := acquire(t, again, "other", "1", nil); got == made || got.previous != nil {
		t.Errorf("Acquire returned the value of a failed build, or got it as the previous value")
	}
}

// Values are closed in the reverse order of their acquisition: a client before its connections.
func TestReleaseOrder(t *testing.T) {
	var closed []string
	l := new(Pool).Lease()
	for _, name := range []string{"series", "connections", "client"} {
		acquire(t, l, name, "1", &closed)
	}
	l.Release()
	if want := []string{"client 1", "connections 1", "series 1"}; !slices.Equal(closed, want) {
		t.Errorf("closed %q, want %q", closed, want)
	}
}

// A value for a nil key is opened for each lease. If open returns the previous value, both leases hold it.
func TestNilKey(t *testing.T) {
	var pool Pool
	opened := 0
	open := func(l *Lease) *thing {
		v, err := Acquire(l, "lists", nil, func(previous *thing) (*thing, error) {
			if opened++; previous != nil {
				return previous, nil
			}
			return &thing{}, nil
		}, func(v *thing) { v.closed.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first, next, last := pool.Lease(), pool.Lease(), pool.Lease()
	v := open(first)
	if got := open(next); got != v || opened != 2 {
		t.Errorf("Acquire returned %p after %d opens, want %p after 2", got, opened, v)
	}
	first.Release()
	if got := open(last); got != v || v.closed.Load() != 0 {
		t.Errorf("Acquire after the first release returned %p, closed %d times, want %p, open", got, v.closed.Load(), v)
	}
	next.Release()
	last.Release()
	if got := v.closed.Load(); got != 1 {
		t.Errorf("the value was closed %d times after the last release, want 1", got)
	}
}

// Values of different types do not meet under one name, and leases without a pool share nothing.
func TestSeparate(t *testing.T) {
	var pool Pool
	l := pool.Lease()
	number, _ := Acquire(l, "north", true, func(int) (int, error) { return 7, nil }, nil)
	text, _ := Acquire(l, "north", true, func(string) (string, error) { return "seven", nil }, nil)
	if number != 7 || text != "seven" {
		t.Errorf("Acquire = %d, %q, want 7, seven", number, text)
	}
	var none *Pool
	a, b := none.Lease(), none.Lease()
	if acquire(t, a, "same", "1", nil) == acquire(t, b, "same", "1", nil) {
		t.Error("two leases of a nil pool share a value, want none shared")
	}
}

// The value of a name is removed when no lease holds the name.
func TestHold(t *testing.T) {
	var pool Pool
	first, next := pool.Lease(), pool.Lease()
	removed := ""
	remove := func(name string) func() { return func() { removed += name } }
	first.Hold("north", remove("north"))
	first.Hold("south", remove("south"))
	next.Hold("north", remove("north"))
	if first.Release(); removed != "south" {
		t.Errorf("after the first release %q is removed, want south", removed)
	}
	if next.Release(); removed != "southnorth" {
		t.Errorf("after the last release %q is removed, want south and north", removed)
	}
}

// Concurrent leases open each value once while one of them holds it, and never get a closed value.
func TestConcurrent(t *testing.T) {
	var pool Pool
	base := pool.Lease()
	shared := acquire(t, base, "shared", "1", nil)
	var open, closed atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				l := pool.Lease()
				if got := acquire(t, l, "shared", "1", nil); got != shared {
					t.Errorf("Acquire = %p, want %p", got, shared)
				}
				v, _ := Acquire(l, "short", "1", func(*thing) (*thing, error) { open.Add(1); return &thing{}, nil },
					func(v *thing) { v.closed.Add(1); closed.Add(1) })
				if n := v.closed.Load(); n != 0 {
					t.Errorf("a value in use has been closed %d times, want 0", n)
				}
				l.Release()
			}
		})
	}
	all.Wait()
	if open.Load() != closed.Load() || shared.closed.Load() != 0 {
		t.Errorf("%d values opened and %d closed, and the shared value closed %d times; want as many closed as opened, and 0", open.Load(), closed.Load(), shared.closed.Load())
	}
	base.Release()
	if shared.closed.Load() != 1 {
		t.Errorf("the shared value was closed %d times, want 1", shared.closed.Load())
	}
}

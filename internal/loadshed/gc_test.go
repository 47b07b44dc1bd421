package loadshed

import (
	"runtime"
	"testing"
	"time"
)

// A small heap may grow more than a large heap, but by at most 32 MiB more than with Go's default.
func TestGCPercent(t *testing.T) {
	before := 400
	for live := uint64(1 << 20); live < 1<<34; live += live / 7 {
		next := gcPercent(live)
		if next > before || next < 100 {
			t.Errorf("gcPercent(%d) = %d after %d, want at most that and at least 100", live, next, before)
		}
		if room := live / 100 * uint64(next); next > 100 && room > 32<<20 {
			t.Errorf("with %d live bytes the heap may grow by %d, want at most 32 MiB", live, room)
		}
		before = next
	}
	if before != 100 {
		t.Errorf("gcPercent of a large heap = %d, want 100", before)
	}
}

// The pace follows each collection, not a clock.
func TestCollections(t *testing.T) {
	collected := collections(t.Context())
	<-collected // the first value stands for the heap at the start
	for i := range 3 {
		runtime.GC()
		select {
		case <-collected:
		case <-time.After(10 * time.Second):
			t.Fatalf("collections sent nothing within 10 s of collection %d", i+1)
		}
	}
}

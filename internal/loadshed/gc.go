package loadshed

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// IdleFor is how long little must have been going on: two seconds longer than net/http keeps
	// a connection without a request, so that what follows a burst is over too.
	IdleFor = 7 * time.Second
	// calmBytes is how much is allocated per second at most while little goes on: some 50
	// requests' worth.
	calmBytes = 1 << 20
	// minGarbage is how much must have been allocated for it to be worth it: Go's runtime starts
	// with a heap of that size.
	minGarbage = 4 << 20
)

// gcPercent returns how much may be allocated before the next collection, in hundredths of
// what lives. Go's 100 makes a small heap be collected some ten times a second, a tenth of
// what a busy gate does; 400 of 8 MiB is 32 MiB. A large heap grows as Go lets it.
func gcPercent(live uint64) int {
	switch {
	case live <= 8<<20:
		return 400
	case live <= 16<<20:
		return 200
	default:
		return 100
	}
}

// ReleaseMemory paces the collector, unless GOGC does, and gives memory back to the system each
// time that little goes on after much did, the start included, until ctx ends. Otherwise
// the garbage of thousands of handshakes would stay for two minutes, when Go's collector
// looks next, and the half of its place for good. While much goes on, the collector comes by
// itself, and nothing is given back.
func ReleaseMemory(ctx context.Context) {
	const every = time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	var tidied, seen uint64 // allocated by then
	var calm time.Duration
	paced := os.Getenv("GOGC") == ""
	pace := 100
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, live := heap()
		if next := gcPercent(live); paced && next != pace {
			debug.SetGCPercent(next)
			pace = next
		}
		if calm += every; now-seen > calmBytes {
			calm = 0
		}
		seen = now
		if calm >= IdleFor && now-tidied >= minGarbage {
			runtime.GC() // what is in a sync.Pool goes with the second
			debug.FreeOSMemory()
			tidied, _ = heap()
			seen = tidied
		}
	}
}

// heap returns how many bytes of heap have been allocated since the start, and how many
// lived at the last collection.
func heap() (allocated, live uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}

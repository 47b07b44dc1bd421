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
	// IdleFor is how long the process must allocate little before memory is released. It is two
	// seconds longer than net/http keeps a connection without a request, so that connections of a
	// burst are parked by then.
	IdleFor = 7 * time.Second
	// idleBytes bounds the allocations of an idle process in one second: 1 MiB, about 50 requests.
	idleBytes = 1 << 20
	// minGarbage is how much must have been allocated since the last release. Go's runtime starts
	// with a heap of 4 MiB too.
	minGarbage = 4 << 20
)

// gcPercent returns the value for [debug.SetGCPercent] for a heap with live bytes. With Go's
// default of 100, a small heap is collected about ten times a second, which takes a tenth of a busy
// gate's CPU time. 400 percent of 8 MiB is 32 MiB. A large heap keeps Go's default.
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

// ReleaseMemory sets the pace of the garbage collector, unless GOGC is set, and returns memory to
// the system when the process becomes idle, until ctx ends. Otherwise the garbage of thousands of
// handshakes stays for two minutes, until Go's next forced collection, and half of its memory is
// never returned. A busy process collects by itself and keeps its memory.
func ReleaseMemory(ctx context.Context) {
	const every = time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	var released, seen uint64 // total allocated bytes at the last release, and at the last look
	var idle time.Duration
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
		if idle += every; now-seen > idleBytes {
			idle = 0
		}
		seen = now
		if idle >= IdleFor && now-released >= minGarbage {
			runtime.GC() // the second collection frees the contents of a sync.Pool
			debug.FreeOSMemory()
			released, _ = heap()
			seen = released
		}
	}
}

// heap returns how many bytes have been allocated since the start, and how many were live after the
// last collection.
func heap() (allocated, live uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}

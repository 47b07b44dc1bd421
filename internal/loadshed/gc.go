package loadshed

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// PaceGC sets the pace of the garbage collector after each collection by the size of the live heap, unless
// GOGC is set, until ctx ends. With Go's default of 100, a small heap is collected about ten times a second,
// which takes a tenth of the CPU time of a busy gate. A timer would be too slow: an attack lets a heap of 8
// MiB grow to 60 MiB in less than a second, and the collector would then wait for another 400 percent of 60
// MiB, which are 240 MiB.
func PaceGC(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live, percent := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, 100
	collected := collections(ctx)
	for {
		metrics.Read(live)
		if next := gcPercent(live[0].Value.Uint64()); next != percent {
			debug.SetGCPercent(next)
			percent = next
		}
		select {
		case <-ctx.Done():
			return
		case <-collected:
		}
	}
}

// collections returns a channel that receives after each garbage collection until ctx ends. If several
// collections end before the receiver receives, it receives only one value for them.
func collections(ctx context.Context) <-chan struct{} {
	collected := make(chan struct{}, 1)
	var arm func(struct{})
	arm = func(struct{}) {
		if ctx.Err() == nil {
			runtime.AddCleanup(new(unreachable), arm, struct{}{})
		}
		select {
		case collected <- struct{}{}:
		default:
		}
	}
	arm(struct{}{})
	return collected
}

// unreachable is an object that the next collection finds unreachable. It is larger than the objects
// that the allocator puts into one block with others.
type unreachable [64]byte

// gcPercent returns the value for [debug.SetGCPercent] for a heap with live bytes. A small heap gets
// 400 percent: 400 percent of 8 MiB is 32 MiB. A large heap keeps Go's default.
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

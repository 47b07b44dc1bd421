package loadshed

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	// idleGarbage is about how many bytes of garbage a connection causes when it becomes idle: 2 * 4 KiB + 2
	// KiB of buffers + 8 KiB of stack = 18 KiB, and about 10 KiB more after a handshake. The value lies
	// between 18 KiB and 28 KiB.
	idleGarbage = 24 << 10
	// idleQuiet is the time without a newly idle connection after which memory is returned. On a busy gate
	// connections become idle all the time; its allocations start collections often enough.
	idleQuiet = 2 * time.Second
)

// IdleMemory returns memory to the system after many connections have become idle. A gate without requests
// allocates nothing, so the next collection would free their buffers only after two minutes, and the runtime
// would return the pages even later. It is safe for concurrent use.
type IdleMemory struct {
	count atomic.Int64 // connections that have become idle since the memory was returned
	wake  chan struct{}
}

// NewIdleMemory returns an IdleMemory.
func NewIdleMemory() *IdleMemory { return &IdleMemory{wake: make(chan struct{}, 1)} }

// ConnectionIdle must be called when a connection has returned its buffers.
func (m *IdleMemory) ConnectionIdle() {
	if m.count.Add(1) == 1 {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// Run waits for idle connections and returns their memory, until ctx ends.
func (m *IdleMemory) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
		for last := int64(0); last != m.count.Load(); {
			last = m.count.Load()
			select {
			case <-ctx.Done():
				return
			case <-time.After(idleQuiet):
			}
		}
		if n := m.count.Swap(0); isWorthwhile(n, liveHeap()) {
			// sync.Pool drops its objects in the second collection. FreeOSMemory makes the second collection.
			runtime.GC()
			debug.FreeOSMemory()
		}
	}
}

// isWorthwhile reports whether the garbage of n connections justifies the CPU time of a collection, which
// grows with the live bytes of the heap.
func isWorthwhile(n int64, live uint64) bool {
	garbage := uint64(n) * idleGarbage
	return garbage >= 4<<20 && garbage >= live/8
}

func liveHeap() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

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
	// idleGarbage is what a connection leaves when it becomes idle: two buffers of 4 KiB and one of 2 KiB,
	// a stack of 8 KiB, and after its handshake some 10 KiB more.
	idleGarbage = 24 << 10
	// idleQuiet is how long no connection must have become idle before the memory is returned. A busy gate is
	// never quiet, but allocates, so that the collector runs anyway.
	idleQuiet = 2 * time.Second
)

// IdleMemory returns memory to the system after many connections have become idle. Without it, their
// buffers stay in memory until the next collection, which a gate without requests makes after two
// minutes, and their pages for minutes more. It is safe for concurrent use.
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

// Run returns memory until ctx ends.
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
			// sync.Pool forgets its objects in the second collection.
			runtime.GC()
			debug.FreeOSMemory()
		}
	}
}

// isWorthwhile reports whether n connections have left so much garbage that a collection of a heap with live
// bytes pays.
func isWorthwhile(n int64, live uint64) bool {
	garbage := uint64(n) * idleGarbage
	return garbage >= 4<<20 && garbage >= live/8
}

func liveHeap() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// calmFor is how long little must have been going on, so that what follows a burst is
	// over too: connections that it leaves behind go to the lobby.
	calmFor = quiet + 2*time.Second
	// calmBytes is how much is allocated per second at most while little goes on: some 50
	// requests' worth.
	calmBytes = 1 << 20
	// litter is how much must have been allocated for it to be worth it: Go's runtime starts
	// with a heap of that size.
	litter = 4 << 20
)

// tidyUp gives memory back to the system each time that little goes on after much did, the
// start included, until ctx ends. Otherwise the garbage of thousands of handshakes would
// stay for two minutes, when Go's collector looks next, and the half of its place for good.
// While much goes on, the collector comes by itself, and nothing is done here.
func tidyUp(ctx context.Context) {
	const every = time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	var tidied, seen uint64 // allocated by then
	var calm time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := allocated()
		if calm += every; now-seen > calmBytes {
			calm = 0
		}
		seen = now
		if calm >= calmFor && now-tidied >= litter {
			runtime.GC() // what is in a sync.Pool goes with the second
			debug.FreeOSMemory()
			tidied = allocated()
			seen = tidied
		}
	}
}

// allocated returns how many bytes of heap have been since the start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

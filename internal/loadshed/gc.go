package loadshed

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// PaceGC sets the pace of the garbage collector by the size of the live heap, unless GOGC is set. With
// Go's default of 100, a small heap is collected about ten times a second, which takes a tenth of the
// CPU time of a busy gate. Only one goroutine may call PaceGC.
func (s *Shedder) PaceGC() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if next := gcPercent(live[0].Value.Uint64()); next != s.gcPercent && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(next)
		s.gcPercent = next
	}
}

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

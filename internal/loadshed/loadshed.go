// Package loadshed says when the process has too little memory, too few file descriptors or too many
// requests to accept more work.
package loadshed

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
)

// A Shedder is what the process has in hand, and says when that is too much. It is safe for
// concurrent use.
type Shedder struct {
	Partners, Issuer atomic.Int64 // requests in hand, by the listeners that they came to

	MaxRequests int          // requests that may be in hand, whatever is configured; 0: that many
	MaxMemory   int64        // bytes that the process may use; 0: nobody says
	FreeCaches  func() bool  // gives memory back, and reports whether there was some; nil: none can be
	began       time.Time    // times below are nanoseconds since then: the wall clock may leap
	measured    atomic.Int64 // when it was looked what it uses
	used        atomic.Int64 // bytes, as of then
	freed       atomic.Int64 // when memory was last given back for want of it
}

// New returns a workload whose requests the metrics tell by the names of the partners'
// listener and of the issuer's.
func New(registerer prometheus.Registerer, partners, issuer string) *Shedder {
	w := &Shedder{began: time.Now()}
	w.measured.Store(-int64(lookEvery)) // never
	for name, inHand := range map[string]*atomic.Int64{partners: &w.Partners, issuer: &w.Issuer} {
		registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tallygate_requests_in_flight", Help: "Requests being handled, by listener; the issuer's alias counts with it.",
			ConstLabels: prometheus.Labels{"listener": name},
		}, func() float64 { return float64(inHand.Load()) }))
	}
	return w
}

// Overloaded returns a function that reports whether a request that is counted in inHand, of
// which there may be most at once, is one too many.
func (w *Shedder) Overloaded(inHand *atomic.Int64, most int) func() bool {
	return func() bool { return inHand.Load() > w.bound(most) || w.LowMemoryForRequests() }
}

// LowMemoryForRequests reports whether memory is too short for further requests.
func (w *Shedder) LowMemoryForRequests() bool { return w.usesMoreThanEighths(7) }

// SlotsLeft returns a function that tells for how many requests more there are places, where
// those in hand are counted in inHand and there may be most.
func (w *Shedder) SlotsLeft(inHand *atomic.Int64, most int) func() int64 {
	return func() int64 { return w.bound(most) - inHand.Load() }
}

// bound returns how many requests may be in hand where most are configured.
func (w *Shedder) bound(most int) int64 {
	if w.MaxRequests > 0 {
		most = min(most, w.MaxRequests)
	}
	return int64(most)
}

// LowMemory reports whether memory is too short for further connections. That is before it
// is too short for requests: connections that are merely open must not keep those out that
// come on others.
func (w *Shedder) LowMemory() bool { return w.usesMoreThanEighths(6) }

// lookEvery is how old the figure of the memory in use may be. Looking takes some 10 µs.
const lookEvery = 100 * time.Millisecond

// usesMoreThanEighths reports whether more than so many eighths of the memory are in use.
func (w *Shedder) usesMoreThanEighths(eighths int64) bool {
	if w.MaxMemory == 0 {
		return false
	}
	now := int64(time.Since(w.began))
	if at := w.measured.Load(); now-at >= int64(lookEvery) && w.measured.CompareAndSwap(at, now) {
		w.used.Store(memoryInUse())
	}
	used := w.used.Load()
	short := used > w.MaxMemory/8*eighths
	if short || used > w.MaxMemory/8*sparedFrom {
		w.free(now, short)
	}
	return short
}

// sparedFrom is how many eighths of the memory may be in use before the caches give some of
// theirs back. That comes before connections are refused, at six, and requests, at seven.
const sparedFrom = 5

// free gives memory back that can be spared, and collects garbage if there was some or if
// memory is short: once a second at most. What lives is known from the last collection only,
// and with few requests the next may be two minutes off.
func (w *Shedder) free(now int64, short bool) {
	at := w.freed.Load()
	if now-at < int64(time.Second) || !w.freed.CompareAndSwap(at, now) {
		return
	}
	go func() {
		if spared := w.FreeCaches != nil && w.FreeCaches(); spared || short {
			runtime.GC()
		}
	}()
}

// memoryInUse returns the bytes that no collection would give back: what the runtime has
// from the system, less what is free and what was garbage at the last collection.
func memoryInUse() int64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(min(samples[i].Value.Uint64(), math.MaxInt64)) }
	in := value(0) + value(1)
	for i := 2; i < len(samples); i++ {
		in -= value(i)
	}
	return in
}

// MemoryLimit returns how many bytes the process may use: GOMEMLIMIT, which becomes nine
// tenths of the cgroup's limit where nobody has set it; 0 for no limit.
func MemoryLimit() int64 {
	_, _ = memlimit.Set(memlimit.WithRatio(0.9)) // errs where there is no limit
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit
	}
	return 0
}

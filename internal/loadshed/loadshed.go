// Package loadshed decides when the process has too little memory or too many concurrent requests
// to accept more work.
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

// A Shedder counts concurrent requests, measures memory and says when work must be refused. It is
// safe for concurrent use.
type Shedder struct {
	Partners, Issuer atomic.Int64 // number of concurrent requests at each listener

	MaxRequests int          // upper bound of every configured limit; 0: no bound
	MaxMemory   int64        // memory limit in bytes; 0: no limit
	FreeCaches  func() bool  // shrinks caches and reports whether it freed memory; nil: no caches
	began       time.Time    // the times below are nanoseconds since began, because the wall clock may jump
	measured    atomic.Int64 // time of the last measurement of used
	used        atomic.Int64 // bytes in use
	freed       atomic.Int64 // time of the last call of free
}

// New returns a Shedder. partners and issuer are the listener names in the metric of concurrent
// requests.
func New(registerer prometheus.Registerer, partners, issuer string) *Shedder {
	s := &Shedder{began: time.Now()}
	s.measured.Store(-int64(measureEvery)) // the first use measures used
	for name, active := range map[string]*atomic.Int64{partners: &s.Partners, issuer: &s.Issuer} {
		registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tallygate_requests_in_flight", Help: "Concurrent requests by listener; the issuer's mutual TLS alias counts as issuer.",
			ConstLabels: prometheus.Labels{"listener": name},
		}, func() float64 { return float64(active.Load()) }))
	}
	return s
}

// Overloaded returns a function that reports whether a request, already counted in active, must be
// refused. configured is the limit of the configuration.
func (s *Shedder) Overloaded(active *atomic.Int64, configured int) func() bool {
	return func() bool { return active.Load() > s.limit(configured) || s.LowMemoryForRequests() }
}

// LowMemoryForRequests reports whether memory is too short for further requests.
func (s *Shedder) LowMemoryForRequests() bool { return s.usesMoreThanEighths(7) }

// SlotsLeft returns a function that returns how many more requests may begin. active counts the
// concurrent requests, and configured is the limit of the configuration.
func (s *Shedder) SlotsLeft(active *atomic.Int64, configured int) func() int64 {
	return func() int64 { return s.limit(configured) - active.Load() }
}

// limit returns the smaller of configured and MaxRequests.
func (s *Shedder) limit(configured int) int64 {
	if s.MaxRequests > 0 {
		configured = min(configured, s.MaxRequests)
	}
	return int64(configured)
}

// LowMemory reports whether memory is too short for further connections. Connections are refused
// earlier than requests, because idle connections must not block the requests on other connections.
func (s *Shedder) LowMemory() bool { return s.usesMoreThanEighths(6) }

// measureEvery is how old the measurement of used memory may be. Measuring takes about 10 µs.
const measureEvery = 100 * time.Millisecond

// usesMoreThanEighths reports whether more than the given number of eighths of MaxMemory are in
// use.
func (s *Shedder) usesMoreThanEighths(eighths int64) bool {
	if s.MaxMemory == 0 {
		return false
	}
	now := int64(time.Since(s.began))
	if at := s.measured.Load(); now-at >= int64(measureEvery) && s.measured.CompareAndSwap(at, now) {
		s.used.Store(memoryInUse())
	}
	used := s.used.Load()
	short := used > s.MaxMemory/8*eighths
	if short || used > s.MaxMemory/8*shrinkCachesAbove {
		s.free(now, short)
	}
	return short
}

// shrinkCachesAbove is how many eighths of the memory may be in use before caches shrink. Above six
// eighths the gate refuses connections, and above seven it refuses requests.
const shrinkCachesAbove = 5

// free shrinks caches at most once a second. It then collects garbage if the caches shrank or memory is
// short: the size of the live heap is measured only by a collection, and with few requests the next
// collection may be two minutes away.
func (s *Shedder) free(now int64, short bool) {
	at := s.freed.Load()
	if now-at < int64(time.Second) || !s.freed.CompareAndSwap(at, now) {
		return
	}
	go func() {
		if shrunk := s.FreeCaches != nil && s.FreeCaches(); shrunk || short {
			runtime.GC()
		}
	}()
}

// memoryInUse returns the bytes that a garbage collection would not free: the memory that the runtime
// has from the system, without free memory, and with the live heap of the last collection in place of
// all objects on the heap.
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

// MemoryLimit returns the memory limit of the process in bytes: GOMEMLIMIT or, if GOMEMLIMIT is not
// set, nine tenths of the cgroup's limit. 0 means no limit.
func MemoryLimit() int64 {
	_, _ = memlimit.Set(memlimit.WithRatio(0.9)) // Set fails if there is no limit
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit
	}
	return 0
}

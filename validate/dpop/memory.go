package dpop

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// shards is the number of locks of a memory: a few times the cores of the machines that
	// sidecars run on.
	shards = 16
	// ownerDivisor gives the share of a memory that one owner may fill: 1/2, as in package cache.
	ownerDivisor = 2
)

// A memory holds the proofs that have been used, RFC 9449 section 11.1. Each entry is kept for the
// window. A full memory refuses further proofs. An entry takes at most 130 bytes: 56 bytes in the
// queue, and 32 × 16/7 = 74 bytes in the map, because at least 7/16 of the map's slots are in use.
type memory struct {
	window atomic.Int64 // how long an entry is kept, in nanoseconds
	shards [shards]shard
}

// A shard is the part of a memory that one lock guards.
type shard struct {
	mu      sync.Mutex
	seen    map[identity]struct{}
	byOwner map[string]int64 // an owner without entries is absent
	queue   []used           // in the order of expiry, unless a reload has shortened the window
	first   int              // index of the oldest entry in queue
	// forgotten is the latest expiry of all entries that were removed, in Unix nanoseconds. If a used
	// proof is no longer in seen, the proof becomes too old at forgotten or earlier.
	forgotten int64
}

// A used is the entry of a proof that was used.
type used struct {
	id      identity
	owner   string
	expires int64 // Unix nanoseconds
}

func newMemory() *memory {
	m := &memory{}
	for i := range m.shards {
		m.shards[i].reset()
	}
	return m
}

func (s *shard) reset() {
	s.seen, s.byOwner, s.queue, s.first = make(map[identity]struct{}), make(map[string]int64), nil, 0
}

// keepFor sets how long the entries that are added from now on are kept.
func (m *memory) keepFor(window time.Duration) { m.window.Store(int64(window)) }

// add stores p for owner, if the memory has fewer entries than entries. The error wraps [ErrInvalid]
// if the memory may have forgotten a use of p, or is [ErrReplayed], [ErrShare] or [ErrFull].
func (m *memory) add(p Proof, owner string, now time.Time, entries int) error {
	s := &m.shards[int(p.id[0])%shards]
	perShard := int64(max(entries/shards, ownerDivisor))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetExpired(now.UnixNano())
	if _, replayed := s.seen[p.id]; replayed {
		return ErrReplayed
	}
	if p.until.UnixNano() <= s.forgotten {
		return invalid("too old by the end of the other checks, so that the memory may have forgotten a first use")
	}
	if int64(len(s.seen)) >= perShard {
		return ErrFull
	}
	if s.byOwner[owner] >= perShard/ownerDivisor {
		return ErrShare
	}
	s.seen[p.id] = struct{}{}
	s.byOwner[owner]++
	s.queue = append(s.queue, used{p.id, owner, now.UnixNano() + m.window.Load()})
	return nil
}

// forgetExpired removes the entries at the front of the queue that have expired.
func (s *shard) forgetExpired(now int64) {
	for s.first < len(s.queue) && s.queue[s.first].expires < now {
		e := &s.queue[s.first]
		delete(s.seen, e.id)
		s.forgotten = max(s.forgotten, e.expires)
		if s.byOwner[e.owner]--; s.byOwner[e.owner] == 0 {
			delete(s.byOwner, e.owner)
		}
		*e = used{}
		s.first++
	}
	switch {
	case s.first == len(s.queue) && s.first > 0:
		s.reset() // a new map, because a map keeps the memory of its largest size
	case s.first > len(s.queue)/2: // with this bound, each entry is moved once on average
		s.queue = append(s.queue[:0], s.queue[s.first:]...)
		s.first = 0
	}
}

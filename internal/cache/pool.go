// Package cache remembers facts in bounded memory. All caches of a process share one
// [Pool], which counts the bytes of each owner, that is, of each partner. In goes a value
// with its size, its owner and its end; it comes out until it expires or is evicted.
package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// shards is how many locks a pool spreads its entries over: a few times the cores of
	// the machines that a sidecar runs on.
	shards = 16
	// ownerPart is the part of a pool that one owner may fill: 1/2. An owner that adds
	// more evicts its own entries.
	ownerPart = 2
	// MaxEntry is the most bytes that the value of an entry may take; a larger one is not
	// remembered. The facts of a token with 200 scopes of 40 bytes take 11.5 KiB:
	// 200 × (41 + 16) bytes and some 400 more.
	MaxEntry = 16 << 10
	// DefaultBytes is the size of a pool where nothing limits the memory of the process.
	// The default of 100,000 tokens of each server at 1 KiB each is 98 MiB; one owner may
	// fill 128 MiB.
	DefaultBytes = 256 << 20
)

// A Pool is the memory that caches share. It is safe for concurrent use.
type Pool struct {
	perShard atomic.Int64 // bytes
	shards   [shards]shard
}

// NewPool returns a pool of so many bytes.
func NewPool(bytes int64) *Pool {
	p := &Pool{}
	for i := range p.shards {
		p.shards[i].owned = make(map[string]int64)
		p.shards[i].queues = make(map[queueKey]*queue)
	}
	p.Resize(bytes)
	return p
}

// Resize sets how many bytes the entries may take, from the next one on.
func (p *Pool) Resize(bytes int64) { p.perShard.Store(bytes / shards) }

// Bytes returns how many bytes the entries take.
func (p *Pool) Bytes() (n int64) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		n += s.bytes
		s.mu.RUnlock()
	}
	return n
}

// Sweep removes the entries that have expired by now. It locks one shard at a time.
func (p *Pool) Sweep(now time.Time) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			for _, e := range q.order.Values() {
				if !now.Before(e.until) {
					s.remove(e)
				}
			}
		}
		s.mu.Unlock()
	}
}

// Shrink removes half of each owner's entries in each cache, unused ones first, and reports
// whether it did: a pool that is filled to a quarter at most stays as it is. Without that
// much, a gate whose memory is taken by connections would verify every token anew. The
// caller is short of memory.
func (p *Pool) Shrink() bool {
	if p.Bytes() <= p.perShard.Load()*shards/4 {
		return false
	}
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			for range (q.order.Len() + 1) / 2 {
				s.evict(q)
			}
		}
		s.mu.Unlock()
	}
	return true
}

// A shard is the part of a pool that one lock guards, with the parts of the caches'
// indexes that belong to it.
type shard struct {
	mu     sync.RWMutex
	bytes  int64
	owned  map[string]int64 // bytes by owner; never 0
	queues map[queueKey]*queue
}

// add adds e to the queue of that key, and then evicts until all bounds hold: of the
// cache's entries, of the owner's bytes, of all bytes. Each time, the longest queue within
// that bound gives way. So an owner whose queues are shorter than others' loses nothing to
// what those add.
func (s *shard) add(e *entry, key queueKey, index map[Key]*entry, perShard int64) {
	q := s.queues[key]
	if q == nil {
		q = newQueue(key, index)
		s.queues[key] = q
	}
	e.queue = q
	q.order.Add(e.key, e)
	index[e.key] = e
	s.count(q, e.bytes)
	for len(index) > key.space.perIndex {
		s.shorten(func(k queueKey) bool { return k.space == key.space })
	}
	for s.owned[key.owner] > perShard/ownerPart {
		s.shorten(func(k queueKey) bool { return k.owner == key.owner })
	}
	for s.bytes > perShard {
		s.shorten(func(queueKey) bool { return true })
	}
}

// shorten evicts from the longest queue whose key matches. There must be one.
func (s *shard) shorten(matches func(queueKey) bool) {
	var longest *queue
	for key, q := range s.queues {
		if matches(key) && (longest == nil || q.bytes > longest.bytes) {
			longest = q
		}
	}
	s.evict(longest)
}

// evict removes the oldest entry of q.
func (s *shard) evict(q *queue) {
	if counter := q.key.space.evictions; counter != nil {
		counter.Inc()
	}
	s.remove(q.oldest())
}

func (s *shard) remove(e *entry) {
	q := e.queue
	q.order.Remove(e.key)
	delete(q.index, e.key)
	s.count(q, -e.bytes)
	if q.order.Len() == 0 {
		delete(s.queues, q.key)
	}
}

// count adds n bytes, which may be negative, to all that q counts in.
func (s *shard) count(q *queue, n int64) {
	q.bytes += n
	s.bytes += n
	if s.owned[q.key.owner] += n; s.owned[q.key.owner] == 0 {
		delete(s.owned, q.key.owner)
	}
}

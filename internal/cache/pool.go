// Package cache stores results of checks in bounded memory: the claims of tokens, introspection
// responses, and verified certificate chains. All caches of a process share one [Pool], which counts
// the bytes of each owner; an owner is a partner. A value stays until it expires or is evicted.
package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// shards is the number of locks in a pool: a few times the cores of the machines that
	// sidecars run on.
	shards = 16
	// ownerDivisor gives the share of a pool that one owner may fill: 1/2. An owner above its
	// share evicts its own entries.
	ownerDivisor = 2
	// MaxEntry is the maximum size of a value in bytes. The claims of a token with 200 scopes of
	// 40 bytes take 200 × (41 + 16) bytes and about 400 more, which is 11.5 KiB.
	MaxEntry = 16 << 10
	// DefaultBytes is the size of a pool for a process without a memory limit. The default of
	// 100,000 tokens for each server at 1 KiB each is 98 MiB; one owner may fill 128 MiB.
	DefaultBytes = 256 << 20
)

// A Pool is the memory that caches share. It is safe for concurrent use.
type Pool struct {
	perShard atomic.Int64 // maximum number of bytes in each shard
	shards   [shards]shard
}

// NewPool returns a pool with the given size in bytes.
func NewPool(bytes int64) *Pool {
	p := &Pool{}
	for i := range p.shards {
		p.shards[i].bytesByOwner = make(map[string]int64)
		p.shards[i].queues = make(map[queueKey]*queue)
	}
	p.Resize(bytes)
	return p
}

// Resize changes the size of the pool. The next Add to a shard evicts down to the new size.
func (p *Pool) Resize(bytes int64) { p.perShard.Store(bytes / shards) }

// Bytes returns the bytes that all entries take.
func (p *Pool) Bytes() (n int64) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		n += s.bytes
		s.mu.RUnlock()
	}
	return n
}

// Sweep removes the entries that have expired at now. It locks one shard at a time.
func (p *Pool) Sweep(now time.Time) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			for _, e := range q.order.Values() {
				if !now.Before(e.expires) {
					s.remove(e)
				}
			}
		}
		s.mu.Unlock()
	}
}

// Shrink removes half of each owner's entries in each cache, unused entries first, and reports whether
// it removed entries. The caller calls Shrink when the process is short of memory. A pool that is
// filled to a quarter or less stays unchanged: connections take the memory then, and without the cache
// the gate would verify every token on every request.
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

// A shard is the part of a pool, and of the caches' indexes, that one lock guards.
type shard struct {
	mu           sync.RWMutex
	bytes        int64
	bytesByOwner map[string]int64 // has no entry for an owner without cache entries
	queues       map[queueKey]*queue
}

// add appends e to the queue of key and evicts until all bounds hold: the cache's number of entries,
// the owner's bytes, and the shard's bytes. Each eviction removes an entry of the longest queue to
// which the exceeded bound applies. The additions of an owner with long queues therefore evict no
// entries of an owner with short queues.
func (s *shard) add(e *entry, key queueKey, index map[Key]*entry, perShard int64) {
	q := s.queues[key]
	if q == nil {
		q = newQueue(key, index)
		s.queues[key] = q
	}
	e.queue = q
	q.order.Add(e.key, e)
	index[e.key] = e
	s.addBytes(q, e.bytes)
	for len(index) > key.cache.maxPerIndex {
		s.evictLongest(func(k queueKey) bool { return k.cache == key.cache })
	}
	for s.bytesByOwner[key.owner] > perShard/ownerDivisor {
		s.evictLongest(func(k queueKey) bool { return k.owner == key.owner })
	}
	for s.bytes > perShard {
		s.evictLongest(func(queueKey) bool { return true })
	}
}

// evictLongest evicts from the longest queue whose key matches. At least one key must match.
func (s *shard) evictLongest(matches func(queueKey) bool) {
	var longest *queue
	for key, q := range s.queues {
		if matches(key) && (longest == nil || q.bytes > longest.bytes) {
			longest = q
		}
	}
	s.evict(longest)
}

func (s *shard) evict(q *queue) {
	if counter := q.key.cache.evictions; counter != nil {
		counter.Inc()
	}
	s.remove(q.oldest())
}

func (s *shard) remove(e *entry) {
	q := e.queue
	q.order.Remove(e.key)
	delete(q.index, e.key)
	s.addBytes(q, -e.bytes)
	if q.order.Len() == 0 {
		delete(s.queues, q.key)
	}
}

// addBytes adds n, which may be negative, to the counts of q, its owner and the shard.
func (s *shard) addBytes(q *queue, n int64) {
	q.bytes += n
	s.bytes += n
	if s.bytesByOwner[q.key.owner] += n; s.bytesByOwner[q.key.owner] == 0 {
		delete(s.bytesByOwner, q.key.owner)
	}
}

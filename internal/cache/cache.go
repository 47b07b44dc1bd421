package cache

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Key is a SHA-256. It is never shortened, so that two values never share a key.
type Key = [32]byte

// A Cache stores values by key in the memory of its [Pool]. A nil Cache stores nothing. It is
// safe for concurrent use.
type Cache[V any] struct{ *base }

// base is the part of a cache that does not depend on the type of its values.
type base struct {
	pool        *Pool
	evictions   prometheus.Counter
	maxPerIndex int              // bounds the entries of each index
	indexes     []map[Key]*entry // indexes[i] is guarded by the lock of pool.shards[i]
}

// New returns a cache in pool that holds at most entries entries, or nil for zero entries. All shards
// have the same size, so the cache may hold up to 15 entries fewer. evictions counts evicted
// entries and may be nil.
func New[V any](pool *Pool, entries int, evictions prometheus.Counter) *Cache[V] {
	if entries <= 0 {
		return nil
	}
	s := &base{pool: pool, evictions: evictions, indexes: make([]map[Key]*entry, min(entries, shards))}
	s.maxPerIndex = entries / len(s.indexes)
	for i := range s.indexes {
		s.indexes[i] = make(map[Key]*entry)
	}
	return &Cache[V]{s}
}

// locate returns the shard and the index of key. The first byte of a SHA-256 selects the shard. All
// shards get the same number of keys, because 256 is a multiple of 16.
func (s *base) locate(key Key) (*shard, map[Key]*entry) {
	i := int(key[0]) % len(s.indexes)
	return &s.pool.shards[i], s.indexes[i]
}

// Get returns the value for key, and whether the cache has it. The value may have expired.
func (c *Cache[V]) Get(key Key) (value V, ok bool) {
	if c == nil {
		return value, false
	}
	s, index := c.locate(key)
	s.mu.RLock()
	e := index[key]
	s.mu.RUnlock()
	if e == nil {
		return value, false
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.value.(V), true
}

// Add stores value for key until expires. bytes is the size of value and counts against the share of
// owner. A value that is larger than [MaxEntry], or than the owner's share of a shard, is not stored.
// Add removes an older value for key in any case.
func (c *Cache[V]) Add(key Key, value V, owner string, bytes int, expires time.Time) {
	if c == nil {
		return
	}
	s, index := c.locate(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := index[key]; old != nil {
		s.remove(old)
	}
	perShard, all := c.pool.perShard.Load(), int64(bytes)+overhead
	if bytes > MaxEntry || all > perShard/ownerDivisor {
		return
	}
	s.add(&entry{key: key, value: value, bytes: all, expires: expires}, queueKey{c.base, owner}, index, perShard)
}

func (c *Cache[V]) Remove(key Key) {
	if c == nil {
		return
	}
	s, index := c.locate(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := index[key]; e != nil {
		s.remove(e)
	}
}

func (c *Cache[V]) Clear() {
	if c == nil {
		return
	}
	for i, index := range c.indexes {
		s := &c.pool.shards[i]
		s.mu.Lock()
		for _, e := range index {
			s.remove(e)
		}
		s.mu.Unlock()
	}
}

// Len returns the number of values, including expired values.
func (c *Cache[V]) Len() (n int) {
	if c == nil {
		return 0
	}
	for i, index := range c.indexes {
		s := &c.pool.shards[i]
		s.mu.RLock()
		n += len(index)
		s.mu.RUnlock()
	}
	return n
}

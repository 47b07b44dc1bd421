package cache

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Key is a SHA-256, whole: what shares a part of it with another shares nothing.
type Key = [32]byte

// A Cache remembers values by key in memory of its [Pool]. A nil Cache remembers nothing.
// It is safe for concurrent use.
type Cache[V any] struct{ *space }

// A space is the part of a cache that does not depend on the type of its values.
type space struct {
	pool      *Pool
	evictions prometheus.Counter
	perIndex  int              // entries
	indexes   []map[Key]*entry // each guarded by the lock of the pool's shard of the same number
}

// New returns a cache of at most so many entries in pool, or nil for none. Up to 15 fewer
// may fit, because all shards are of one size. evictions counts the entries that leave to
// make room for others; nil: nobody counts them.
func New[V any](pool *Pool, entries int, evictions prometheus.Counter) *Cache[V] {
	if entries <= 0 {
		return nil
	}
	s := &space{pool: pool, evictions: evictions, indexes: make([]map[Key]*entry, min(entries, shards))}
	s.perIndex = entries / len(s.indexes)
	for i := range s.indexes {
		s.indexes[i] = make(map[Key]*entry)
	}
	return &Cache[V]{s}
}

// part returns what holds the entry of key. SHA-256 spreads evenly by its first byte, and
// 256 is a multiple of 16.
func (s *space) part(key Key) (*shard, map[Key]*entry) {
	i := int(key[0]) % len(s.indexes)
	return &s.pool.shards[i], s.indexes[i]
}

// Get returns the value under key, and whether there is one. It may have expired.
func (c *Cache[V]) Get(key Key) (value V, ok bool) {
	if c == nil {
		return value, false
	}
	s, index := c.part(key)
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

// Add remembers value, which takes so many bytes, under key until then, in the share of
// owner. A value of more than [MaxEntry], or of more than fits the share, is not remembered.
func (c *Cache[V]) Add(key Key, value V, owner string, bytes int, until time.Time) {
	if c == nil {
		return
	}
	s, index := c.part(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := index[key]; old != nil {
		s.remove(old)
	}
	perShard, all := c.pool.perShard.Load(), int64(bytes)+overhead
	if bytes > MaxEntry || all > perShard/ownerPart {
		return
	}
	s.add(&entry{key: key, value: value, bytes: all, until: until}, queueKey{c.space, owner}, index, perShard)
}

// Remove forgets the value under key.
func (c *Cache[V]) Remove(key Key) {
	if c == nil {
		return
	}
	s, index := c.part(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := index[key]; e != nil {
		s.remove(e)
	}
}

// Clear forgets all values.
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

// Len returns how many values there are, with expired ones.
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

// Package facts is what tokens say. It reads that from their claims, and remembers it, so
// that it need not be found out on every request: in goes the SHA-256 of a token, out
// comes what its authorization server vouched for. What may pass is no fact and never
// stands here: whoever reads one must judge it.
package facts

import (
	"crypto/sha256"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// A Sum is the whole SHA-256 of a token. Two tokens that share a part of it share
// nothing.
type Sum [sha256.Size]byte

// SumOf returns the sum of a raw token. Most tokens fit a buffer on the stack; Sum256
// takes bytes, and converting the string would put a copy of every token on the heap.
func SumOf(raw string) Sum {
	var buffer [2 << 10]byte
	if len(raw) > len(buffer) {
		return sha256.Sum256([]byte(raw))
	}
	return sha256.Sum256(buffer[:copy(buffer[:], raw)])
}

// maxShards is how many locks a cache spreads its entries over: a few times the
// cores of the machines that a sidecar runs on.
const maxShards = 16

// A Cache remembers one value for each of many tokens of one authorization server; each
// server has a cache of its own. A nil Cache remembers nothing. It is safe for
// concurrent use.
type Cache[V any] struct {
	shards    []*lru.Cache[Sum, V]
	evictions prometheus.Counter
}

// NewCache returns a cache of at most so many entries, or nil for none. Up to 15
// fewer may fit, because all shards are of one size. evictions counts the entries that
// leave because it is full.
func NewCache[V any](entries int, evictions prometheus.Counter) *Cache[V] {
	if entries <= 0 {
		return nil
	}
	c := &Cache[V]{shards: make([]*lru.Cache[Sum, V], min(entries, maxShards)), evictions: evictions}
	for i := range c.shards {
		// The only error is a size that is not positive; this one is at least 1.
		c.shards[i], _ = lru.New[Sum, V](entries / len(c.shards))
	}
	return c
}

// shard spreads by the first byte of the sum, which is as even as any. 256 is a
// multiple of 16, so full caches fill evenly.
func (c *Cache[V]) shard(sum Sum) *lru.Cache[Sum, V] {
	return c.shards[int(sum[0])%len(c.shards)]
}

// Get returns what is remembered under sum, and whether anything is.
func (c *Cache[V]) Get(sum Sum) (value V, ok bool) {
	if c == nil {
		return value, false
	}
	return c.shard(sum).Get(sum)
}

// Add remembers value under sum, in place of what was used longest ago when full.
func (c *Cache[V]) Add(sum Sum, value V) {
	if c != nil && c.shard(sum).Add(sum, value) {
		c.evictions.Inc()
	}
}

// Remove forgets what is remembered under sum.
func (c *Cache[V]) Remove(sum Sum) {
	if c != nil {
		c.shard(sum).Remove(sum)
	}
}

// Len returns how many entries there are.
func (c *Cache[V]) Len() int {
	if c == nil {
		return 0
	}
	n := 0
	for _, s := range c.shards {
		n += s.Len()
	}
	return n
}

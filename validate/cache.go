package validate

import (
	"crypto/sha256"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// maxShards is how many locks a cache spreads its entries over: a few times the
// cores of the machines that a sidecar runs on.
const maxShards = 16

// A cache remembers what verified tokens of one authorization server say. It holds
// facts and no verdicts: who reads one must judge it. The key is the whole SHA-256
// of the token. A nil cache remembers nothing.
type cache struct {
	shards    []*lru.Cache[[sha256.Size]byte, *fact]
	evictions prometheus.Counter
}

// newCache returns a cache of at most so many entries, or nil for none. Up to 15
// fewer may fit, because all shards are of one size.
func newCache(entries int, evictions prometheus.Counter) *cache {
	if entries <= 0 {
		return nil
	}
	c := &cache{shards: make([]*lru.Cache[[sha256.Size]byte, *fact], min(entries, maxShards)), evictions: evictions}
	for i := range c.shards {
		// The only error is a size that is not positive; this one is at least 1.
		c.shards[i], _ = lru.New[[sha256.Size]byte, *fact](entries / len(c.shards))
	}
	return c
}

// shard spreads by the first byte of the sum, which is as even as any. 256 is a
// multiple of 16, so full caches fill evenly.
func (c *cache) shard(sum [sha256.Size]byte) *lru.Cache[[sha256.Size]byte, *fact] {
	return c.shards[int(sum[0])%len(c.shards)]
}

// get returns what is remembered under sum, or nil.
func (c *cache) get(sum [sha256.Size]byte) *fact {
	if c == nil {
		return nil
	}
	f, _ := c.shard(sum).Get(sum)
	return f
}

// add remembers f under sum, in place of what was used longest ago when full.
func (c *cache) add(sum [sha256.Size]byte, f *fact) {
	if c != nil && c.shard(sum).Add(sum, f) {
		c.evictions.Inc()
	}
}

// remove forgets what is remembered under sum.
func (c *cache) remove(sum [sha256.Size]byte) {
	if c != nil {
		c.shard(sum).Remove(sum)
	}
}

// len returns how many entries there are.
func (c *cache) len() int {
	if c == nil {
		return 0
	}
	n := 0
	for _, s := range c.shards {
		n += s.Len()
	}
	return n
}

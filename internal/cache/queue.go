package cache

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A queue holds the entries of one owner in one shard of one cache, in the order of eviction. The
// shard's lock guards it.
type queue struct {
	key   queueKey
	bytes int64
	order *simplelru.LRU[Key, *entry]
	index map[Key]*entry // the cache's index in this shard, with the entries of all owners
}

type queueKey struct {
	cache *base
	owner string
}

// An entry is immutable except for used.
type entry struct {
	key     Key
	value   any
	queue   *queue
	bytes   int64
	expires time.Time
	used    atomic.Bool // looked up since the entry was added, or since oldest moved the entry to the end
}

// overhead is the memory of an entry in addition to its value: 112 bytes for the entry, 96 for
// the list element, and a key, a pointer and a byte (41 bytes) in each of two maps with a load
// factor of at least 7/16. 112 + 96 + 2 × 41 × 16/7 = 395.
const overhead = 400

func newQueue(key queueKey, index map[Key]*entry) *queue {
	order, err := simplelru.NewLRU[Key, *entry](math.MaxInt, nil) // shard.add bounds the size
	if err != nil {
		panic(err) // NewLRU fails only for a size that is not positive
	}
	return &queue{key: key, order: order, index: index}
}

// maxSecondChances bounds how many used entries a call of oldest moves to the end of the queue.
const maxSecondChances = 8

// oldest returns the next entry to evict: the first entry that has not been used since it was added.
// oldest moves used entries before that entry to the end of the queue. The order of the queue does not
// change on a look-up, which only sets a flag and needs no exclusive lock.
func (q *queue) oldest() *entry {
	for range maxSecondChances {
		_, e, _ := q.order.GetOldest()
		if !e.used.Swap(false) {
			return e
		}
		q.order.Get(e.key)
	}
	_, e, _ := q.order.GetOldest()
	return e
}

package cache

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A queue holds the entries of one owner in one shard of one cache, in the order in which
// they are evicted. The shard's lock guards it.
type queue struct {
	key   queueKey
	bytes int64
	order *simplelru.LRU[Key, *entry]
	index map[Key]*entry // of the cache, in this shard; all owners' entries
}

type queueKey struct {
	space *space
	owner string
}

// An entry never changes, but for used.
type entry struct {
	key   Key
	value any
	queue *queue
	bytes int64
	until time.Time
	used  atomic.Bool // since it was added, or since oldest passed it over
}

// overhead is what an entry takes beside its value: 112 bytes for itself, 96 in the list, and
// in each of two maps a key, a pointer and a byte, 41 bytes, at a load of 7/16 at the least.
// 112 + 96 + 2 × 41 × 16/7 = 395.
const overhead = 400

func newQueue(key queueKey, index map[Key]*entry) *queue {
	order, err := simplelru.NewLRU[Key, *entry](math.MaxInt, nil) // shard.add bounds it
	if err != nil {
		panic(err) // it errs for a size that is not positive
	}
	return &queue{key: key, order: order, index: index}
}

// mostPassedOver bounds how many entries oldest moves to the end.
const mostPassedOver = 8

// oldest returns the entry to evict: the one that was added first, but for those that have
// been used since. They move to the end of the queue. A look-up therefore only sets a flag
// and needs no exclusive lock.
func (q *queue) oldest() *entry {
	for range mostPassedOver {
		_, e, _ := q.order.GetOldest()
		if !e.used.Swap(false) {
			return e
		}
		q.order.Get(e.key)
	}
	_, e, _ := q.order.GetOldest()
	return e
}

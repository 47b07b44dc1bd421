package revocation

import (
	"math"
	"sync"
	"sync/atomic"
)

// shards is the number of parts of a table. Readers of different parts do not share a lock, and a sweep holds
// the lock of one part only.
const shards = 64

// never is the time of an entry that no sweep removes.
const never = math.MaxInt64

// A table maps keys to times in Unix seconds, and holds the latest time for each key. It is safe for concurrent use.
type table[K comparable] struct {
	partOf func(K) uint // the part of a key, modulo shards
	size   atomic.Int64
	part   [shards]part[K]
}

type part[K comparable] struct {
	sync.RWMutex
	times map[K]int64
	size  atomic.Int64 // len(times), which can be read without the lock
	_     [24]byte     // makes a part as long as a cache line of 64 bytes, so that readers of two parts do not share a cache line
}

func newTable[K comparable](partOf func(K) uint) *table[K] {
	t := &table[K]{partOf: partOf}
	for i := range t.part {
		t.part[i].times = make(map[K]int64)
	}
	return t
}

// sumPart returns the part of a hash sum. The bytes of a sum are equally distributed.
func sumPart[K ~[32]byte](sum K) uint { return uint(sum[0]) }

// textPart returns the part of a text by its last bytes, which differ where names have a prefix in common.
func textPart(text string) uint {
	part := uint(len(text))
	for i := max(0, len(text)-4); i < len(text); i++ {
		part = part*31 + uint(text[i])
	}
	return part
}

func subjectPart(s foreignSubject) uint { return textPart(s.sub) }

// get returns the time of key, and whether the table has key.
func (t *table[K]) get(key K) (time int64, ok bool) {
	if t.size.Load() == 0 { // the usual state of most tables
		return 0, false
	}
	p := &t.part[t.partOf(key)%shards]
	if p.size.Load() == 0 {
		return 0, false
	}
	p.RLock()
	time, ok = p.times[key]
	p.RUnlock()
	return time, ok
}

// raise sets the time of key unless the table has a later time for key. It adds no key to a table with limit keys,
// and then returns false. Concurrent calls may together exceed limit by a few keys.
func (t *table[K]) raise(key K, time int64, limit int64) bool {
	p := &t.part[t.partOf(key)%shards]
	p.Lock()
	defer p.Unlock()
	held, ok := p.times[key]
	if !ok && t.size.Load() >= limit {
		return false
	}
	p.times[key] = max(held, time)
	if !ok {
		p.size.Add(1)
		t.size.Add(1)
	}
	return true
}

// each calls yield with every key and its time until yield returns false. No lock is held meanwhile, so that a slow yield
// delays no reader.
func (t *table[K]) each(yield func(key K, time int64) bool) bool {
	type row struct {
		key  K
		time int64
	}
	var rows []row
	for i := range t.part {
		p := &t.part[i]
		rows = rows[:0]
		p.RLock()
		for key, time := range p.times {
			rows = append(rows, row{key, time})
		}
		p.RUnlock()
		for _, r := range rows {
			if !yield(r.key, r.time) {
				return false
			}
		}
	}
	return true
}

// sweep removes the keys whose time is before now.
func (t *table[K]) sweep(now int64) {
	for i := range t.part {
		p := &t.part[i]
		p.Lock()
		for key, time := range p.times {
			if time < now {
				delete(p.times, key)
				p.size.Add(-1)
				t.size.Add(-1)
			}
		}
		p.Unlock()
	}
}

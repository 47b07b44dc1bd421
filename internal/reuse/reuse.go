// Package reuse keeps what outlives a configuration: connections, caches, counts, fetched documents.
// Each configuration has a [Lease] of the [Pool] and acquires what it needs by name. What the previous
// configuration acquired under the same name, for the same key, is shared. A value is closed when the last
// lease that holds it is released, so a reload acquires for the next configuration before it releases the
// previous lease, and a reload that fails releases the lease of the configuration that it gives up.
package reuse

import (
	"reflect"
	"slices"
	"sync"
)

// A Pool holds values and counts the leases of each. The zero Pool is empty. It is safe for concurrent use.
type Pool struct {
	mu      sync.Mutex
	entries map[identity][]*entry // in the order in which they were opened
}

// An identity is a name for values of one type, so that two packages cannot mix up their values.
type identity struct {
	of   reflect.Type
	name string
}

type entry struct {
	id     identity
	key    any
	value  any
	leases int
	close  func()
}

// A Lease is what one configuration holds of a Pool. It is safe for concurrent use.
type Lease struct {
	pool *Pool
	held []*entry // guarded by the pool's mu
}

// Lease returns a lease that holds nothing. The lease of a nil Pool shares nothing with other leases.
func (p *Pool) Lease() *Lease {
	if p == nil {
		p = new(Pool)
	}
	return &Lease{pool: p}
}

// Acquire returns the value of that name and key, and l holds it until it is released. key has all that the
// value is made from, and is compared by [reflect.DeepEqual]. A nil key equals no other key.
//
// If the pool does not have the value, open makes it. It gets the latest value of the same name for another
// key, the zero value without one, and may take over parts of it or return its pointer. close, which may be nil, is
// called once no lease holds the value. open must not acquire, and is not called concurrently with another
// open of the pool. An error of open is returned, and l then does not hold the value.
func Acquire[V any](l *Lease, name string, key any, open func(previous V) (V, error), close func(V)) (V, error) {
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	id := identity{reflect.TypeFor[V](), name}
	var previous, none V
	var latest *entry
	for _, latest = range p.entries[id] {
		if previous = latest.value.(V); key != nil && reflect.DeepEqual(latest.key, key) {
			l.hold(latest)
			return previous, nil
		}
	}
	value, err := open(previous)
	if err != nil {
		return none, err
	}
	if latest != nil && id.of.Kind() == reflect.Pointer && any(value) == latest.value {
		l.hold(latest)
		return value, nil
	}
	e := &entry{id: id, key: key, value: value, close: func() {}}
	if close != nil {
		e.close = func() { close(value) }
	}
	if p.entries == nil {
		p.entries = make(map[identity][]*entry)
	}
	p.entries[id] = append(p.entries[id], e)
	l.hold(e)
	return value, nil
}

// Hold makes l hold name. last is called once no lease holds it: what belongs to a name is then removed.
func (l *Lease) Hold(name string, last func()) {
	_, _ = Acquire(l, name, true, func(func()) (func(), error) { return last, nil }, func(last func()) { last() })
}

func (l *Lease) hold(e *entry) {
	e.leases++
	l.held = append(l.held, e)
}

// Release gives back what l holds, and returns when the values that no other lease holds are closed: a value
// before the values that were acquired earlier. A second Release does nothing.
func (l *Lease) Release() {
	for _, e := range l.unused() {
		e.close()
	}
}

// unused empties l and returns the entries that no lease holds any more, the latest first. It removes them
// from the pool.
func (l *Lease) unused() (unused []*entry) {
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range slices.Backward(l.held) {
		if e.leases--; e.leases == 0 {
			p.entries[e.id] = slices.DeleteFunc(p.entries[e.id], func(other *entry) bool { return other == e })
			if len(p.entries[e.id]) == 0 {
				delete(p.entries, e.id)
			}
			unused = append(unused, e)
		}
	}
	l.held = nil
	return unused
}

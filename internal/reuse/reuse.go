// Package reuse shares values between successive configurations: connections, caches, counts, fetched
// documents. Each configuration has a [Lease] of the [Pool] and acquires the values that it needs by
// name and key. If the previous configuration has acquired a value under the same name and key, the two
// configurations share the value. A value is closed when the last lease that holds it is released. A
// reload therefore acquires for the next configuration before it releases the previous lease. A reload
// that fails releases the lease of the new configuration.
package reuse

import (
	"reflect"
	"slices"
	"sync"
)

// A Pool holds values and counts the leases of each value. The zero Pool is empty. It is safe for
// concurrent use.
type Pool struct {
	mu      sync.Mutex
	entries map[identity][]*entry // in the order in which the values were opened
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

// A Lease lists the values of a Pool that one configuration holds. It is safe for concurrent use.
type Lease struct {
	pool *Pool
	held []*entry // guarded by the mutex of the pool
}

// Lease returns a lease that holds nothing. The lease of a nil Pool shares nothing with other leases.
func (p *Pool) Lease() *Lease {
	if p == nil {
		p = new(Pool)
	}
	return &Lease{pool: p}
}

// Acquire returns the value with this name and key, and l holds the value until l is released. key must
// contain all inputs from which open makes the value. Keys are compared by [reflect.DeepEqual]. A nil
// key equals no other key.
//
// If the pool does not have the value, Acquire calls open. previous is the latest value with the same
// name and another key, or the zero value. open may use parts of previous, or return previous itself if
// it is a pointer. If open returns an error, Acquire returns it, and l does not hold the value. open
// must not call Acquire, and the pool never calls two open functions concurrently. close, which may be
// nil, is called once no lease holds the value.
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

// Hold makes l hold name. last is called once no lease holds name. last should remove the objects that
// belong to the name, such as metrics.
func (l *Lease) Hold(name string, last func()) {
	_, _ = Acquire(l, name, true, func(func()) (func(), error) { return last, nil }, func(last func()) { last() })
}

func (l *Lease) hold(e *entry) {
	e.leases++
	l.held = append(l.held, e)
}

// Release gives up the values that l holds, and closes the values that no other lease holds. A value is
// closed before the values that were acquired earlier. Release returns when all are closed. A second
// call does nothing.
func (l *Lease) Release() {
	for _, e := range l.unused() {
		e.close()
	}
}

// unused empties l, removes from the pool the entries that no lease holds any more, and returns these
// entries. The entry that was acquired last comes first.
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

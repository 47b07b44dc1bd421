package http1

import (
	"slices"
	"sort"
	"sync"
	"time"
)

// sweepEvery is how often connections are closed that the server has closed, or that have
// been idle for too long. Each costs a descriptor until then.
const sweepEvery = 10 * time.Second

// distrusted is how long no connection is used twice after the server has sent an answer that
// nobody asked for. A server does so out of a fault, or because it took a request's body for
// another request, and it will do so again.
const distrusted = time.Minute

// A pool keeps connections that serve no request. No goroutine waits for what happens to
// them: they are looked at before they are used, and now and then.
type pool struct {
	mu    sync.Mutex
	idle  []*conn   // in the order in which they became idle
	until time.Time // until then the server is distrusted
	timer *time.Timer
}

// take returns the connection that was used last among those that have rested for as long as
// t.Settle and are of use, nil when there is none. A second answer that comes within that time
// is found by the look at the connection, which no other goroutine has at that moment, since the
// pool's lock is held. One that comes later cannot be told from the answer to the next request.
func (p *pool) take(t *Transport) *conn {
	p.mu.Lock()
	now := time.Now()
	var taken *conn
	var useless []*conn
	unasked := false
	settled := sort.Search(len(p.idle), func(i int) bool { return now.Sub(p.idle[i].idleSince) < t.Settle })
	for i := settled - 1; i >= 0 && taken == nil && now.After(p.until); i-- {
		c := p.idle[i]
		p.idle = slices.Delete(p.idle, i, i+1)
		silent, second := c.look()
		unasked = unasked || second
		if silent && now.Sub(c.idleSince) < t.IdleTimeout {
			taken = c
		} else {
			useless = append(useless, c)
		}
	}
	p.mu.Unlock()
	closeAll(useless)
	if unasked {
		t.distrust()
		if taken != nil {
			closeAll([]*conn{taken})
		}
		return nil
	}
	return taken
}

// distrust closes the idle connections and lets none become idle for a while.
func (t *Transport) distrust() {
	p := &t.pool
	p.mu.Lock()
	now := time.Now()
	known := now.Before(p.until)
	p.until = now.Add(distrusted)
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	closeAll(idle)
	if !known {
		t.Unasked()
	}
}

// put reports whether it has taken c.
func (p *pool) put(c *conn, t *Transport) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.idleSince = time.Now()
	if len(p.idle) >= t.MaxIdle || c.idleSince.Before(p.until) {
		return false
	}
	p.idle = append(p.idle, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(sweepEvery, func() { p.sweep(t) })
	}
	return true
}

// sweep closes what is of no use any more, and comes again if anything is left.
func (p *pool) sweep(t *Transport) {
	var useless []*conn
	unasked := false
	p.mu.Lock()
	now := time.Now()
	p.idle = slices.DeleteFunc(p.idle, func(c *conn) bool {
		silent, second := c.look()
		unasked = unasked || second
		useful := silent && now.Sub(c.idleSince) < t.IdleTimeout
		if !useful {
			useless = append(useless, c)
		}
		return !useful
	})
	switch {
	case p.timer == nil: // the pool was cleared
	case len(p.idle) == 0:
		p.timer = nil
	default:
		p.timer.Reset(sweepEvery)
	}
	p.mu.Unlock()
	closeAll(useless)
	if unasked {
		t.distrust()
	}
}

// clear closes all connections.
func (p *pool) clear() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.mu.Unlock()
	closeAll(idle)
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		_ = c.stream.Close()
	}
}

package upstream

import (
	"slices"
	"sort"
	"sync"
	"time"
)

// sweepEvery is the time between two searches for idle connections that the server has closed or that
// are too old. Until the search, each such connection uses a file descriptor.
const sweepEvery = 10 * time.Second

// distrusted is the time during which no connection is reused after the server has sent a response
// without a request. Such a server has a bug, or took the body of a request for another request, and is
// likely to send such a response again.
const distrusted = time.Minute

// A pool holds idle connections. No goroutine reads from idle connections. The pool checks a connection
// before its use, and checks all connections every sweepEvery.
type pool struct {
	mu    sync.Mutex
	idle  []*conn   // in the order in which they became idle
	until time.Time // until this time no connection is reused
	timer *time.Timer
}

// take returns the most recently used connection that has been idle for t.Settle and is still usable,
// or nil. take checks the connection, and finds a second response if one has arrived in this idle time.
// A second response that arrives later cannot be told from the response to the next request. The check
// holds the pool's lock, so no other goroutine uses the connection at that time.
func (p *pool) take(t *Client) *conn {
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

// distrust closes the idle connections. For the time distrusted, the pool then takes no connections.
func (t *Client) distrust() {
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

// put adds c to the idle connections. It returns false if the pool does not take c.
func (p *pool) put(c *conn, t *Client) bool {
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

// sweep closes connections that are not usable. It runs again after sweepEvery while the pool has
// connections.
func (p *pool) sweep(t *Client) {
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

// clear closes all idle connections.
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

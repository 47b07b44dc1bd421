package http1

import (
	"slices"
	"sync"
	"time"
)

// sweepEvery is how often connections are closed that the server has closed, or that have
// been idle for too long. Each costs a descriptor until then.
const sweepEvery = 10 * time.Second

// A pool keeps connections that serve no request. No goroutine waits for what happens to
// them: they are looked at before they are used, and now and then.
type pool struct {
	mu    sync.Mutex
	idle  []*conn // that used last is the last
	timer *time.Timer
}

// take returns the connection that was used last among those that are of use, nil when
// there is none.
func (p *pool) take(timeout time.Duration) *conn {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		p.mu.Unlock()
		if c.isUseful(time.Now(), timeout) {
			return c
		}
		_ = c.stream.Close()
	}
}

// put reports whether it has taken c.
func (p *pool) put(c *conn, t *Transport) bool {
	c.idleSince = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= t.MaxIdle {
		return false
	}
	p.idle = append(p.idle, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(sweepEvery, func() { p.sweep(t.IdleTimeout) })
	}
	return true
}

func (c *conn) isUseful(now time.Time, timeout time.Duration) bool {
	return now.Sub(c.idleSince) < timeout && c.isSilent()
}

// sweep closes what is of no use any more, and comes again if anything is left.
func (p *pool) sweep(timeout time.Duration) {
	var useless []*conn
	p.mu.Lock()
	now := time.Now()
	p.idle = slices.DeleteFunc(p.idle, func(c *conn) bool {
		useful := c.isUseful(now, timeout)
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

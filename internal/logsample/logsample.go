// Package logsample bounds how many log lines are written about events that a client can cause at
// will.
package logsample

import (
	"sync"
	"time"
)

// interval is how often the log tells of one kind of refusal before TLS or in it: a flood
// of refusals must not become one of lines.
const interval = 10 * time.Second

// A Sampler counts events of one kind between the log lines about them. It has no lock.
type Sampler struct {
	untold int // events since the last line
	told   time.Time
}

// Add counts an event and returns how many a line has to tell of now, 0 for no line.
func (d *Sampler) Add(now time.Time) (n int) {
	d.untold++
	if now.Sub(d.told) < interval {
		return 0
	}
	n, d.untold, d.told = d.untold, 0, now
	return n
}

// maxCauses bounds the kinds that digests tell apart; strangers may make more.
const maxCauses = 16

// Samplers holds a digest for each cause. The zero value is ready; it is safe for concurrent
// use.
type Samplers struct {
	mu   sync.Mutex
	each map[string]*Sampler
}

// Add is [digest.due] for events of this cause. Causes beyond the first mostCauses share one
// digest.
func (d *Samplers) Add(cause string, now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.each == nil {
		d.each = make(map[string]*Sampler)
	}
	if d.each[cause] == nil && len(d.each) >= maxCauses {
		cause = ""
	}
	if d.each[cause] == nil {
		d.each[cause] = new(Sampler)
	}
	return d.each[cause].Add(now)
}

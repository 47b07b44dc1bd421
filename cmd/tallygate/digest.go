package main

import (
	"sync"
	"time"
)

// tellEvery is how often the log tells of one kind of refusal before TLS or in it: a flood
// of refusals must not become one of lines.
const tellEvery = 10 * time.Second

// A digest counts events of one kind between the log lines about them. It has no lock.
type digest struct {
	untold int // events since the last line
	told   time.Time
}

// due counts an event and returns how many a line has to tell of now, 0 for no line.
func (d *digest) due(now time.Time) (n int) {
	d.untold++
	if now.Sub(d.told) < tellEvery {
		return 0
	}
	n, d.untold, d.told = d.untold, 0, now
	return n
}

// mostCauses bounds the kinds that digests tell apart; strangers may make more.
const mostCauses = 16

// digests holds a digest for each cause. The zero value is ready; it is safe for concurrent
// use.
type digests struct {
	mu   sync.Mutex
	each map[string]*digest
}

// due is [digest.due] for events of this cause. Causes beyond the first mostCauses share one
// digest.
func (d *digests) due(cause string, now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.each == nil {
		d.each = make(map[string]*digest)
	}
	if d.each[cause] == nil && len(d.each) >= mostCauses {
		cause = ""
	}
	if d.each[cause] == nil {
		d.each[cause] = new(digest)
	}
	return d.each[cause].due(now)
}

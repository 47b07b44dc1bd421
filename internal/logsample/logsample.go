// Package logsample bounds the number of log lines about events that a client can cause as often as it
// wants.
package logsample

import (
	"sync"
	"time"
)

// interval is the time between two log lines about the same cause.
const interval = 10 * time.Second

// A Sampler counts events of one cause between its log lines. It is not safe for concurrent use.
type Sampler struct {
	events int // events since the last line
	logged time.Time
}

// Add counts an event and returns how many events a log line must report now, or 0 for no line.
func (d *Sampler) Add(now time.Time) (n int) {
	d.events++
	if now.Sub(d.logged) < interval {
		return 0
	}
	n, d.events, d.logged = d.events, 0, now
	return n
}

// maxCauses bounds the number of causes, because clients may be able to invent causes.
const maxCauses = 16

// Samplers holds a Sampler for each cause. The zero value is ready. It is safe for concurrent use.
type Samplers struct {
	mu   sync.Mutex
	each map[string]*Sampler
}

// Add calls [Sampler.Add] of the Sampler for cause. All causes after the first maxCauses share one
// Sampler.
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

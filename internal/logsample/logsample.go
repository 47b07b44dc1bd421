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

const (
	// maxCauses bounds the number of causes, because clients may be able to invent causes.
	maxCauses = 16
	// maxSources bounds the Samplers of AddFor for addresses: 64 lines in an interval.
	maxSources = 64
)

// Samplers holds a Sampler for each cause, or for each cause, detail and address. The zero value is ready.
// It is safe for concurrent use.
type Samplers struct {
	mu    sync.Mutex
	each  map[source]*Sampler
	swept time.Time // when expired Samplers were removed
}

// A source is a cause, a detail and the address of the client. If detail and address are "", the source
// stands for all details and addresses of the cause.
type source struct{ cause, detail, address string }

// Add calls [Sampler.Add] of the Sampler for cause. All causes after the first maxCauses share one
// Sampler.
func (d *Samplers) Add(cause string, now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sampler(source{cause: cause}, source{}, maxCauses).Add(now)
}

// AddFor calls [Sampler.Add] of the Sampler for cause, detail and address. There are at most maxSources such
// Samplers in an interval. Further details and addresses share one Sampler for each cause. The causes must be
// a closed set; clients may invent details.
func (d *Samplers) AddFor(cause, detail, address string, now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.each) >= maxSources && now.Sub(d.swept) >= interval {
		d.swept = now
		for key, known := range d.each {
			if key.address != "" && now.Sub(known.logged) >= interval {
				delete(d.each, key)
			}
		}
	}
	return d.sampler(source{cause, detail, address}, source{cause: cause}, maxSources).Add(now)
}

// sampler returns the Sampler for key. If there is no Sampler for key and already limit Samplers, it returns
// the Sampler for other.
func (d *Samplers) sampler(key, other source, limit int) *Sampler {
	if d.each == nil {
		d.each = make(map[source]*Sampler)
	}
	if d.each[key] == nil && len(d.each) >= limit {
		key = other
	}
	if d.each[key] == nil {
		d.each[key] = new(Sampler)
	}
	return d.each[key]
}

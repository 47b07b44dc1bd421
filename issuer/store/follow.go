package store

import (
	"context"
	"crypto/rand"
	"sync"
	"time"
)

// maxPending bounds the revocations that wait for Follow: 10,000 of some 200 bytes are 2 MB. Follow takes them all at
// once, so more can wait only while it does not run or while its callback is slow.
const maxPending = 10_000

// A log has the revocations that were committed since Follow last read it. A file has no numbers, so the numbers
// count what Follow has delivered, and each reading of the whole file begins a new epoch.
type log struct {
	interval time.Duration // between empty pages
	news     chan struct{} // has a value if pending or overflown may have changed

	mu        sync.Mutex
	pending   []Addition // in the order of the commits
	following bool       // Follow runs
	overflown bool       // more than maxPending were waiting, so that Follow must read the file
}

func newLog() log { return log{interval: time.Second, news: make(chan struct{}, 1)} }

// add is called with each revocation after its commit and before its acknowledgement.
func (l *log) add(r Revocation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.following || l.overflown: // Follow will read r from the file
	case len(l.pending) == maxPending:
		l.pending, l.overflown = nil, true
	default:
		l.pending = append(l.pending, Addition{Revocation: r, Stored: time.Now()})
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// restart makes the log collect the revocations that are committed from now on.
func (l *log) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending, l.following, l.overflown = nil, true, false
}

// take returns the revocations that were committed since the last call. If a revocation is missing, complete
// is false.
func (l *log) take() (all []Addition, complete bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, l.pending = l.pending, nil
	return all, !l.overflown
}

func (l *log) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending, l.following = nil, false
}

// Follow calls apply with every revocation in the file, page by page, and from then on with each revocation right
// after it was stored, until ctx ends. It then returns nil. After each complete reading, and once a second, the page is
// empty. Each page continues the page before it, unless it has another epoch, in which the pages begin again. Each call
// has an epoch of its own. A second call must not be made before the first has returned.
func (f *File) Follow(ctx context.Context, apply func(Page)) error {
	defer f.log.stop()
	ticks := time.NewTicker(f.log.interval)
	defer ticks.Stop()
	for {
		next := Page{Epoch: rand.Text()}
		deliver := func(all []Addition) { next = deliverPage(next, all, apply) }
		f.log.restart() // before the file is read, so that a revocation is either read or pending
		if err := f.eachPage(func(all []Revocation) error {
			additions := make([]Addition, len(all))
			for i, r := range all {
				additions[i].Revocation = r
			}
			deliver(additions)
			return ctx.Err()
		}); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		for {
			all, complete := f.log.take()
			if !complete {
				break
			}
			if len(all) > 0 {
				deliver(all)
			}
			deliver(nil)
			select {
			case <-ctx.Done():
				return nil
			case <-f.quit:
				return ErrClosed
			case <-f.log.news:
			case <-ticks.C:
			}
		}
	}
}

// deliverPage numbers all, calls apply with them in pages behind next, and returns the page that comes after them.
// Without all, the page that apply gets is empty.
func deliverPage(next Page, all []Addition, apply func(Page)) Page {
	for {
		n := min(len(all), maxBatch)
		next.Additions = all[:n:n]
		for i := range next.Additions {
			next.Seq++
			next.Additions[i].Seq = next.Seq
		}
		apply(next)
		next = Page{Epoch: next.Epoch, After: next.Seq, Seq: next.Seq}
		if all = all[n:]; len(all) == 0 {
			return next
		}
	}
}

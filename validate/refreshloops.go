package validate

import (
	"context"
	"slices"
	"sync"
)

// A reader keeps something fresh until ctx ends: a server's metadata, its key set, or what is
// known of whether it takes the gate's credentials.
type refresher interface{ Run(ctx context.Context) }

// loops are the readers that run, of all Validators that come one after another. They are
// safe for concurrent use.
type refreshLoops struct {
	mu      sync.Mutex
	running map[refresher]*refreshLoop
}

// A loop is one reader at work.
type refreshLoop struct {
	cancel context.CancelFunc
	done   chan struct{} // closed at its end
}

// start lets readers run, those that do not yet.
func (l *refreshLoops) start(readers []refresher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range readers {
		if l.running[r] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		one := &refreshLoop{cancel, make(chan struct{})}
		l.running[r] = one
		go func() {
			defer close(one.done)
			r.Run(ctx)
		}()
	}
}

// end stops readers, those that run, and waits for that.
func (l *refreshLoops) end(readers []refresher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ending []*refreshLoop
	for _, r := range readers {
		if one := l.running[r]; one != nil {
			one.cancel()
			ending = append(ending, one)
			delete(l.running, r)
		}
	}
	for _, one := range ending {
		<-one.done
	}
}

// without returns those of readers that are not among others.
func except(readers, others []refresher) []refresher {
	return slices.DeleteFunc(readers, func(r refresher) bool { return slices.Contains(others, r) })
}

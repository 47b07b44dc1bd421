package validate

import (
	"context"
	"slices"
	"sync"
)

// A refresher keeps a fact fresh until ctx ends: a server's metadata, its key set, or whether it
// accepts the gate's credentials.
type refresher interface{ Run(ctx context.Context) }

// refreshLoops are the running refreshers of all Validators across reloads. They are safe for
// concurrent use.
type refreshLoops struct {
	mu      sync.Mutex
	running map[refresher]*refreshLoop
}

// A refreshLoop is a running refresher.
type refreshLoop struct {
	cancel context.CancelFunc
	done   chan struct{} // closed at the end
}

// start runs the refreshers that are not running yet.
func (l *refreshLoops) start(refreshers []refresher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range refreshers {
		if l.running[r] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		loop := &refreshLoop{cancel, make(chan struct{})}
		l.running[r] = loop
		go func() {
			defer close(loop.done)
			r.Run(ctx)
		}()
	}
}

// end stops the refreshers that are running, and waits until they have ended.
func (l *refreshLoops) end(refreshers []refresher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ending []*refreshLoop
	for _, r := range refreshers {
		if loop := l.running[r]; loop != nil {
			loop.cancel()
			ending = append(ending, loop)
			delete(l.running, r)
		}
	}
	for _, loop := range ending {
		<-loop.done
	}
}

// except returns refreshers without the elements of others.
func except(refreshers, others []refresher) []refresher {
	return slices.DeleteFunc(refreshers, func(r refresher) bool { return slices.Contains(others, r) })
}

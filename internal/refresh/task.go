package refresh

import (
	"context"
	"sync"
)

// A Task runs a function in the background, such as [Loop.Run]. The zero Task is stopped. It is safe for
// concurrent use.
type Task struct {
	mu     sync.Mutex
	cancel context.CancelFunc // nil while the Task is stopped
	done   chan struct{}      // closed when the function has returned
}

// Start runs run in the background, unless the Task is already running.
func (t *Task) Start(run func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.cancel, t.done = cancel, done
	go func() {
		defer close(done)
		run(ctx)
	}()
}

// Stop cancels the context of the function and returns when the function has returned. A stopped Task can
// be started again.
func (t *Task) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancel != nil {
		t.cancel()
		<-t.done
		t.cancel = nil
	}
}

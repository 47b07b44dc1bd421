package refresh

import (
	"context"
	"testing"
)

// Start runs the function once until Stop, which waits for its end. A stopped Task can start again.
func TestTask(t *testing.T) {
	var task Task
	task.Stop() // nothing runs
	starts, running := make(chan bool, 3), false
	run := func(ctx context.Context) {
		running = true
		starts <- true
		<-ctx.Done()
		running = false
	}
	for range 2 {
		task.Start(run)
		<-starts
		task.Start(run) // does nothing
		if task.Stop(); running || len(starts) > 0 {
			t.Errorf("after Stop the function runs: %t, and was started %d more times; want false, 0", running, len(starts))
		}
	}
}

package loadshed

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is returned when no connection has become idle for idleQuiet, and only if many have before.
func TestIdleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		collections := func() uint32 {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			return stats.NumForcedGC
		}
		ctx, cancel := context.WithCancel(t.Context())
		m := NewIdleMemory()
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.Run(ctx)
		}()
		before := collections()
		for range 5 { // a burst that lasts several quiet periods
			for range 200 {
				m.ConnectionIdle()
			}
			time.Sleep(idleQuiet - time.Millisecond)
		}
		if n := collections() - before; n != 0 {
			t.Errorf("%d collections during a burst, want none", n)
		}
		time.Sleep(2 * idleQuiet)
		synctest.Wait()
		if n := collections() - before; n != 2 {
			t.Errorf("%d collections after a burst, want 2", n)
		}
		m.ConnectionIdle()
		time.Sleep(3 * idleQuiet)
		synctest.Wait()
		if n := collections() - before; n != 2 {
			t.Errorf("%d collections after one more connection, want 2", n)
		}
		cancel()
		<-done
	})
}

func TestIsWorthwhile(t *testing.T) {
	for _, tt := range []struct {
		n    int64
		live uint64
		want bool
	}{{100, 1 << 20, false}, {200, 8 << 20, true}, {2000, 100 << 20, true}, {2000, 1 << 30, false}, {10000, 1 << 30, true}} {
		if got := isWorthwhile(tt.n, tt.live); got != tt.want {
			t.Errorf("isWorthwhile(%d, %d) = %t, want %t", tt.n, tt.live, got, tt.want)
		}
	}
}

package refresh

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Delay keeps its bounds for any number of failures.
func TestBackoff(t *testing.T) {
	for failures, longest := range map[int]time.Duration{
		0: 5 * time.Minute, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 1 << 30: 30 * time.Second,
	} {
		for range 100 {
			if got := Every(5 * time.Minute).Delay(failures); got > longest || got < longest-longest/10 {
				t.Errorf("Delay(%d) = %s, want at most %s and at least a tenth less", failures, got, longest)
			}
		}
	}
	if got := Every(time.Second).Delay(10); got > time.Second {
		t.Errorf("Delay(10) = %s at an interval of 1s, want at most 1s", got)
	}
	if got := Every(time.Hour).Remaining(0, 2*time.Hour); got != 0 {
		t.Errorf("Remaining(2h) = %s at an interval of 1h, want 0", got)
	}
}

// A loop fetches at its interval, retries failures sooner, and fetches at once when it is
// woken.
func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{}, 1)
		var fetches atomic.Int32
		var failing atomic.Bool
		go Loop{
			Fetch: func(context.Context) error {
				fetches.Add(1)
				if failing.Load() {
					return errors.New("failed")
				}
				return nil
			},
			Backoff: func() Backoff { return Every(time.Minute) },
			Wake:    wake,
		}.Run(ctx, 10*time.Second)
		expect := func(when string, after time.Duration, want int32) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := fetches.Load(); got != want {
				t.Errorf("%s: %d fetches, want %d", when, got, want)
			}
		}
		expect("before the first delay", 9*time.Second, 0)
		expect("after the first delay", 2*time.Second, 1)
		expect("after the interval", time.Minute, 2)
		failing.Store(true)
		wake <- struct{}{}
		expect("woken", 0, 3)
		expect("after delays of 1, 2 and 4 seconds", 7*time.Second, 6)
		failing.Store(false)
		expect("after the delay of 8 seconds", 8*time.Second, 7)
		expect("within the interval", 50*time.Second, 7)
		cancel()
		expect("canceled", time.Hour, 7)
	})
}

// A loop that follows another loop of the same fetch continues its back-off.
func TestLoopAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		fetches := 0
		Loop{
			Fetch:    func(context.Context) error { fetches++; return errors.New("failed") },
			Backoff:  func() Backoff { return Every(time.Minute) },
			Failures: 3, // the fourth failure is followed by a delay of 8 s, or up to a tenth less
		}.Run(ctx, 0)
		if fetches != 1 {
			t.Errorf("%d fetches in 7 s after three failures before Run, want 1", fetches)
		}
	})
}

// Package refresh repeats a fetch: at an interval, when a caller asks for it, and after failures with a
// back-off.
package refresh

import (
	"context"
	"math/rand/v2"
	"time"
)

// A Backoff computes the delays between the attempts of a repeated fetch.
type Backoff struct {
	Interval time.Duration // the delay after a success
	First    time.Duration // the delay after the first failure; each further failure in a row doubles it
	Max      time.Duration // bounds the delays after failures
}

// Every returns a Backoff for a fetch at interval. Failures are retried after 1 s, 2 s, 4 s and so on
// up to 30 s, so that a fetch succeeds soon after the server works again.
func Every(interval time.Duration) Backoff {
	return Backoff{Interval: interval, First: time.Second, Max: 30 * time.Second}
}

// Delay returns the time until the next attempt after the given number of failures in a row. The delay
// is never longer than Interval, and at random up to a tenth shorter, so that the gates of a fleet do
// not fetch at the same moment.
func (b Backoff) Delay(failures int) time.Duration {
	delay := b.Interval
	if failures > 0 {
		delay = min(b.Interval, b.Max)
		// First<<16 is above any Max in use, so further doubling changes nothing.
		delay = min(delay, b.First<<min(failures-1, 16))
	}
	return delay - rand.N(delay/10+1) //nolint:gosec // the time of a fetch is not a secret
}

// Remaining returns the time until the next attempt if the last attempt was age ago and ended the given
// number of failures in a row. It is 0 if the attempt is due.
func (b Backoff) Remaining(failures int, age time.Duration) time.Duration {
	return max(0, b.Delay(failures)-age)
}

// A Loop repeats a fetch.
type Loop struct {
	// Fetch fetches once. It logs its own errors.
	Fetch func(ctx context.Context) error
	// Backoff is called after each fetch, because a response may change the interval.
	Backoff func() Backoff
	// A value in Wake makes the loop fetch at once. With nil, the loop only follows the schedule.
	Wake <-chan struct{}
	// Failures is the number of failures in a row before the call of Run.
	Failures int
}

// Run fetches until ctx ends. first is the delay before the first fetch.
func (l Loop) Run(ctx context.Context, first time.Duration) {
	failures := l.Failures
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-l.Wake:
		}
		err := l.Fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		failures++
		if err == nil {
			failures = 0
		}
		timer.Reset(l.Backoff().Delay(failures))
	}
}

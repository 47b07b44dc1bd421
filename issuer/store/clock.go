package store

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// maxStep is the longest step forward of the clock between two sweeps that Sweep accepts at once. A revocation is kept for
	// 10 min after the exp of its token, twice the longest leeway, so a sweep that is 5 min early removes only
	// revocations of tokens that no gate accepts any longer.
	maxStep = 5 * time.Minute

	// steadyFor is the time without another step after which Sweep accepts a step of the clock forward. A clock that was set
	// wrong, or is wrong at the start of the machine, is usually corrected within this time.
	steadyFor = time.Hour
)

// sweptKey is where metaBucket has the time of the last sweep, in Unix seconds, 8 bytes big-endian.
var sweptKey = []byte("swept")

// A sweepClock limits the time by which Sweep judges whether a record has expired. Without the limit, a clock of the
// machine that steps forward and back would remove revocations that are still needed.
type sweepClock struct {
	mu      sync.Mutex
	opened  time.Time
	base    time.Time     // the last time that was accepted
	elapsed time.Duration // the time from opened to base, by the monotonic clock

	ahead time.Duration // how far the clock is ahead of base and the time since, or zero
	since time.Duration // when it stepped there, after opened
}

// limit returns now, or an earlier time and an error that wraps [ErrUnavailable] if the clock has stepped forward.
func (c *sweepClock) limit(now time.Time) (time.Time, error) {
	return c.limitAt(now.Round(0), now.Sub(c.opened)) // Sub uses the monotonic clock, if now has its reading
}

func (c *sweepClock) limitAt(wall time.Time, elapsed time.Duration) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	expected := c.base.Add(elapsed - c.elapsed)
	ahead := wall.Sub(expected)
	if ahead > maxStep {
		if (ahead - c.ahead).Abs() > maxStep {
			c.ahead, c.since = ahead, elapsed
		}
		if elapsed-c.since < steadyFor {
			return expected, fmt.Errorf("%w: the clock is %s ahead of the last sweep and the time since; what has expired meanwhile is removed after the clock has been steady for %s",
				ErrUnavailable, ahead.Round(time.Second), steadyFor)
		}
	}
	c.base, c.elapsed, c.ahead = wall, elapsed, 0
	return wall, nil
}

// readSwept begins with the time of the last sweep of an earlier process, because the clock may be wrong at the start.
func (f *File) readSwept() error {
	f.clock.opened = time.Now()
	f.clock.base = f.clock.opened.Round(0)
	return f.view(func(tx *bbolt.Tx) error {
		if value := tx.Bucket(metaBucket).Get(sweptKey); len(value) == 8 {
			f.clock.base = time.Unix(int64(binary.BigEndian.Uint64(value)), 0)
		}
		return nil
	})
}

func putSwept(tx *bbolt.Tx, limit time.Time) error {
	return abort(tx.Bucket(metaBucket).Put(sweptKey, binary.BigEndian.AppendUint64(nil, uint64(limit.Unix()))))
}

package authserver

import (
	"math/rand/v2"
	"time"
)

// longestRetry bounds the pause after a failure, so that a server that has come back is
// found soon.
const longestRetry = 30 * time.Second

// Pause returns how long to wait for the next reading of what is read every so often,
// after so many failures in a row: 1 s, 2 s, 4 s and so on up to 30 s, or less where
// it is read more often anyway. Up to a tenth is taken off by chance, so that a fleet
// does not read in step.
func Pause(every time.Duration, failures int) time.Duration {
	wait := every
	if failures > 0 {
		// 2^5 s are more than longestRetry: further doubling would change nothing.
		wait = min(every, longestRetry, time.Second<<min(failures-1, 5))
	}
	return wait - rand.N(wait/10+1) //nolint:gosec // nobody gains by guessing when a reading comes
}

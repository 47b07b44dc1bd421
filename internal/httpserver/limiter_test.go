package httpserver

import (
	"testing"
	"time"
)

// A flood of refusals is logged at intervals, with the number of refusals.
func TestRefusalsInTheLog(t *testing.T) {
	d := &ConnLimiter{}
	start := time.Now()
	var told []int
	for i := range 2500 {
		if n := d.suppressedCount(start.Add(time.Duration(i) * 10 * time.Millisecond)); n > 0 {
			told = append(told, n)
		}
	}
	if len(told) != 3 || told[0] != 1 || told[1] != 1000 || told[2] != 1000 {
		t.Errorf("got log lines about %v refusals, want 1, 1000 and 1000: the first, then each 10 seconds", told)
	}
}

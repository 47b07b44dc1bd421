package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// After a step of the clock forward, Sweep removes only the records that have expired without the step, until the clock
// has been steady for an hour. A restart does not hide the step.
func TestSweepStep(t *testing.T) {
	folder := t.TempDir()
	f := open(t, folder)
	began := time.Now()
	for _, after := range []int{10, 30, 90, 200} { // minutes
		if err := f.Revoke(store.Revocation{Kind: revocation.Token, Subject: fmt.Sprint(after), Until: began.Add(time.Duration(after) * time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	const minute = time.Minute
	for i, step := range []struct {
		passed, ahead time.Duration // since began, and what the clock shows beyond it
		reopened      bool
		removed       int
		stepped       bool
	}{
		{minute, 0, false, 0, false},
		{2 * minute, 24 * time.Hour, false, 0, true}, // the clock steps
		{11 * minute, 24 * time.Hour, false, 1, true},
		{12 * minute, 0, false, 0, false},             // and back
		{13 * minute, 4 * minute, false, 0, false},    // a small step
		{14 * minute, 24 * time.Hour, true, 0, true},  // the clock is wrong at the start
		{15 * minute, 48 * time.Hour, false, 0, true}, // steps again
		{31 * minute, 48 * time.Hour, false, 1, true},
		{74 * minute, 48 * time.Hour, false, 0, true},
		{75 * minute, 48 * time.Hour, false, 2, false}, // an hour after the last step
		{76 * minute, 48 * time.Hour, false, 0, false},
	} {
		if step.reopened {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			f = open(t, folder)
			began = began.Add(step.passed) // the monotonic clock of the new process begins here
		}
		elapsed := step.passed
		if i >= 5 {
			elapsed -= 14 * minute
		}
		n, err := f.SweepAt(began.Add(elapsed+step.ahead), elapsed)
		if n != step.removed || (err != nil) != step.stepped || err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("after %s with the clock %s ahead, Sweep returned %d, %v; want %d, and an error: %t", step.passed, step.ahead, n, err, step.removed, step.stepped)
		}
	}
}

package httpserver

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The connection gets a deadline when an operation needs it, and not again while the last one is close
// enough. A deadline in the past takes effect at once.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set []time.Duration
		start := time.Now()
		d := deadline{set: func(at time.Time) error {
			if at.IsZero() {
				set = append(set, 0)
			} else {
				set = append(set, at.Sub(start))
			}
			return nil
		}}
		operation := func() { d.begin(0); d.end() }
		expect := func(what string, want ...time.Duration) {
			t.Helper()
			if !slices.Equal(set, want) {
				t.Errorf("%s: the connection got the deadlines %v, want %v", what, set, want)
			}
			set = nil
		}
		_ = d.at(start.Add(30 * time.Second))
		_ = d.at(start.Add(20 * time.Second))
		expect("without an operation")
		operation()
		expect("the first operation", 20*time.Second)
		_ = d.at(start.Add(20*time.Second + 999*time.Millisecond))
		operation()
		expect("a little later")
		_ = d.at(start.Add(21 * time.Second))
		operation()
		expect("a second later", 21*time.Second)
		_ = d.at(start.Add(20 * time.Second))
		operation()
		expect("earlier", 20*time.Second)
		_ = d.at(start.Add(2 * time.Second))
		operation()
		_ = d.at(start.Add(2*time.Second + 300*time.Millisecond))
		operation()
		expect("an eighth of a short deadline", 2*time.Second, 2*time.Second+300*time.Millisecond)
		d.begin(0)
		_ = d.at(past)
		expect("during an operation", past.Sub(start))
		_ = d.at(time.Time{})
		d.end()
		expect("no deadline during an operation", 0)
		d.within(start, 4*time.Second)
		operation()
		d.within(start.Add(time.Second), 4*time.Second)
		operation()
		d.within(start.Add(3*time.Second), 4*time.Second)
		operation()
		expect("within", 4*time.Second, 7*time.Second)
		limited := func() { d.begin(10 * time.Second); d.end() }
		limited()
		expect("a limit", 10*time.Second)
		_ = d.at(start.Add(2 * time.Second))
		limited()
		expect("a deadline before the limit", 2*time.Second)
		_ = d.at(time.Time{})
		limited()
		expect("a limit again", 10*time.Second)
	})
}

// A slow connection takes its time to set a deadline that has not passed.
func TestDeadlineOfTwo(t *testing.T) {
	began, last := make(chan struct{}), time.Time{}
	d := deadline{set: func(at time.Time) error {
		if at.After(time.Now()) {
			close(began)
			time.Sleep(20 * time.Millisecond)
		}
		last = at
		return nil
	}}
	d.begin(0)
	var later sync.WaitGroup
	later.Go(func() { _ = d.at(time.Now().Add(time.Hour)) })
	<-began
	_ = d.at(past)
	later.Wait()
	if !last.Equal(past) {
		t.Errorf("the deadline is %s, want one that has passed", last)
	}
}

package load

import (
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tallygate/tallygate/bench/stats"
)

// onTime plans a request every 1/Rate seconds and passes it to the next connection at that time. The
// duration of a request starts at its planned time, even when it must wait for the answer before it
// on its connection. Otherwise slow moments would be measured least (coordinated omission).
func onTime(job Job, workers []*worker) (Result, error) {
	interval := time.Duration(float64(time.Second) / job.Rate)
	count := int(job.Duration / interval)
	plans := make([]chan time.Time, len(workers))
	for i := range plans {
		plans[i] = make(chan time.Time, count/len(workers)+1) // a full channel would delay all requests after it
	}
	late := make([]time.Duration, 0, count)
	started := time.Now()
	go func() {
		// Go's timers may be a millisecond late, which is longer than most answers take.
		runtime.LockOSThread()
		for i := range count {
			planned := started.Add(time.Duration(i) * interval)
			pause(planned)
			late = append(late, time.Since(planned))
			plans[i%len(plans)] <- planned
		}
		for _, p := range plans {
			close(p)
		}
	}()
	index := map[*worker]int{}
	for i, w := range workers {
		index[w] = i
	}
	err := each(workers, func(w *worker) error {
		for planned := range plans[index[w]] {
			if err := w.step(w.token()); err != nil {
				return err
			}
			w.took = append(w.took, time.Since(planned))
		}
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	result := summary(workers, time.Since(started))
	slices.Sort(late)
	result.Late = stats.Percentile(late, 0.99)
	return result, nil
}

// pause sleeps until a time on the calling thread, by the kernel's timer.
func pause(until time.Time) {
	for d := time.Until(until); d > 0; d = time.Until(until) {
		t := unix.NsecToTimeval(int64(d))
		_, _ = unix.Select(0, nil, nil, nil, &t) // a signal may end the sleep early
	}
}

package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// A witness calls every sidecar for every acknowledged revocation, over and over, and records each request that
// was granted later than within after the acknowledgement.
type witness struct {
	f      *fleet
	within time.Duration // from the acknowledgement, in which a sidecar may still grant
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu           sync.Mutex
	acknowledged []acknowledged
	faults       []string
	calls        int
}

type acknowledged struct {
	target *target
	at     time.Time
}

// witness starts a witness, which stops with [witness.end].
func (f *fleet) witness(within time.Duration) *witness {
	ctx, cancel := context.WithCancel(context.Background())
	w := &witness{f: f, within: within, cancel: cancel}
	for _, s := range f.sidecars {
		w.group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w.call(s, n)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	return w
}

// call calls the sidecar for the n-th acknowledged revocation, counted around.
func (w *witness) call(s *sidecar, n int) {
	w.mu.Lock()
	known := w.acknowledged
	w.mu.Unlock()
	if len(known) == 0 {
		return
	}
	a := known[n%len(known)]
	began := time.Now()
	status, _ := s.call(w.f, a.target)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if age := began.Sub(a.at); status == http.StatusOK && age > w.within {
		w.faults = append(w.faults, fmt.Sprintf("%s granted %s %s after the acknowledgement of its revocation", s.name, a.target.name, age.Round(time.Millisecond)))
	}
}

// acknowledge says that the revocation of x has just been acknowledged.
func (w *witness) acknowledge(x *target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledged = append(w.acknowledged, acknowledged{x, time.Now()})
}

// revoke revokes the targets at the issuers in turn, with a pause after each. A revocation without an
// acknowledgement is tried again at the next issuer, for the time patience.
func (w *witness) revoke(targets []target, pause time.Duration) {
	w.f.t.Helper()
	for i := range targets {
		x := &targets[i]
		deadline := time.Now().Add(patience)
		for try := i; ; try++ {
			err := w.f.revoke(x, try%len(w.f.issuers))
			if err == nil {
				w.acknowledge(x)
				break
			}
			if time.Now().After(deadline) {
				w.f.t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(pause)
	}
}

// end stops the witness. The test fails if a request was granted too late, or if a sidecar does not refuse every
// acknowledged revocation now.
func (w *witness) end() {
	w.f.t.Helper()
	w.cancel()
	w.group.Wait()
	for i, fault := range w.faults {
		if i == 5 {
			w.f.t.Errorf("and %d more", len(w.faults)-i)
			break
		}
		w.f.t.Error(fault)
	}
	for _, a := range w.acknowledged {
		w.f.refusedByAll(a.target, time.Now())
	}
	w.f.t.Logf("%d revocations acknowledged, %d requests, none granted too late", len(w.acknowledged), w.calls)
}

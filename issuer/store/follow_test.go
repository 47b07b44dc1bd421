package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/issuer/store/storetest"
	"github.com/tallygate/tallygate/revocation"
)

// A slow reader, for which more than maxPending revocations wait, gets all revocations again in another
// epoch.
func TestFollowOverflow(t *testing.T) {
	f := open(t, t.TempDir())
	f.FollowEvery(time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	waiting, release := make(chan bool), make(chan bool)
	epochs, held := make(map[string]bool), make(map[string]bool)
	done := make(chan error, 1)
	first := true
	go func() {
		done <- f.Follow(ctx, func(p store.Page) {
			if first {
				first = false
				waiting <- true
				<-release
			}
			epochs[p.Epoch] = true
			for _, a := range p.Additions {
				held[a.Subject] = true
			}
			if len(p.Additions) == 0 && len(held) > store.MaxPending {
				cancel()
			}
		})
	}()
	<-waiting
	var wait sync.WaitGroup
	for w := range 64 {
		wait.Go(func() {
			for n := w; n <= store.MaxPending; n += 64 {
				if err := f.Revoke(store.Revocation{Kind: revocation.Application, Subject: fmt.Sprint(n), IssuedBy: at(1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(held) != store.MaxPending+1 || len(epochs) != 2 {
		t.Errorf("%d revocations in %d epochs were delivered, want %d in 2", len(held), len(epochs), store.MaxPending+1)
	}
}

// Revocations are delivered when they are stored, and not with the next tick.
func TestFollowAtOnce(t *testing.T) {
	f := open(t, t.TempDir())
	f.FollowEvery(time.Hour)
	r, _ := storetest.Follow(t, f)
	for n := range 3 {
		if err := f.Revoke(store.Revocation{Kind: revocation.Application, Subject: fmt.Sprint(n), IssuedBy: at(1)}); err != nil {
			t.Fatal(err)
		}
		r.WaitFor(fmt.Sprint(n))
	}
}

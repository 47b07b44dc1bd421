package keyring_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/keyring"
	"github.com/tallygate/tallygate/issuer/store"
)

// share makes the harness a second process with the state of first.
func share(t *testing.T, first *harness, signing config.Signing) *harness {
	t.Helper()
	b := &harness{t: t, clock: first.clock, state: first.state, gauge: first.gauge, shared: true}
	b.reopen(signing)
	return b
}

// A ring of a shared store takes over a rotation of another process, and rotates only once with it.
func TestSharedStore(t *testing.T) {
	a := newHarness(t, own(config.ES256))
	a.shared = true
	a.reopen(own(config.ES256))
	b := share(t, a, own(config.ES256))
	if err := a.ring.Rotate(); err != nil {
		t.Fatal(err)
	}
	token := a.sign()
	if err := b.parse(token); err != nil {
		t.Errorf("the token of the next key is unknown to another process: %v", err)
	}
	b.refresh()
	if !slices.Equal(a.kids(), b.kids()) || b.states() != "old active next" {
		t.Errorf("one process publishes %v and another %v with states %s", a.kids(), b.kids(), b.states())
	}
	a.clock, b.clock = a.clock.Add(rotate), b.clock.Add(rotate)
	a.refresh()
	b.refresh()
	if !slices.Equal(a.kids(), b.kids()) || b.states() != "active next" && b.states() != "old active next" {
		t.Errorf("one process publishes %v and another %v with states %s", a.kids(), b.kids(), b.states())
	}
}

// A ring that cannot read a shared store publishes its keys for 45 seconds, while no other process can
// sign with a key that it lacks.
func TestSharedStoreAway(t *testing.T) {
	b := newHarness(t, own(config.ES256))
	b.shared = true
	b.state = &awayStore{Store: b.state}
	synctest.Test(t, func(*testing.T) {
		b.reopen(own(config.ES256))
		away := b.state.(*awayStore)
		away.err = store.ErrUnavailable
		for _, step := range []struct {
			passes time.Duration
			want   error
		}{{44 * time.Second, nil}, {2 * time.Second, store.ErrUnavailable}} {
			time.Sleep(step.passes)
			if err := b.ring.Refresh(); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Refresh returned %v, want ErrUnavailable", err)
			}
			if err := b.ring.Current(); !errors.Is(err, step.want) {
				t.Errorf("after another %s Current returned %v, want %v", step.passes, err, step.want)
			}
		}
		away.err = nil
		if err := errors.Join(b.ring.Refresh(), b.ring.Current()); err != nil {
			t.Errorf("after the store came back: %v, want nil", err)
		}
	})
}

// An awayStore is a store whose methods return err while err is set.
type awayStore struct {
	keyring.Store
	err error
}

func (s *awayStore) Keys() ([]store.Key, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.Store.Keys()
}

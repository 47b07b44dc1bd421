package keyring

import (
	"errors"
	"fmt"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
)

// Several processes share the keys of a store. Each of them publishes every key before any of them
// signs with it, without a comparison of their clocks:
//
//   - A process reads the store every refreshInterval, and answers no key set whose reading began more
//     than maxKeyAge ago by its own monotonic clock.
//   - The store refuses to activate a key that has not been stored for store.LeastPublished, by the
//     clock of the store, with [store.ErrUnpublished].
//
// So every key set that is answered was read at most maxKeyAge = 45 s earlier, when a key that signs
// now had been stored for at least 60 s - 45 s = 15 s. The 15 s are for the drift of the two clocks
// within a minute.
//
// A process that has not noticed a rotation signs with the retired key for at most maxKeyAge longer,
// because it then refuses token requests. The tokens end TokenLifetime later, and clockMargin is 10
// minutes: 45 s, 5 minutes of leeway at a gate, and more than 4 minutes for the difference between the
// clocks of two processes.
const maxKeyAge = 45 * time.Second

var errStale = errors.New("the signing keys were not read for 45 seconds")

// Current returns an error that wraps [store.ErrUnavailable] if another process may sign with a key
// that this ring does not publish. The ring must then publish no key set and sign nothing.
func (r *Ring) Current() error {
	if r.options.Shared && len(r.options.Signing.Files) == 0 && time.Since(r.opened)-time.Duration(r.readAt.Load()) > maxKeyAge {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, errStale)
	}
	return nil
}

// refreshShared publishes the keys of the store, and rotates them if a rotation is due and no other
// process has rotated them. r.mu must be held.
func (r *Ring) refreshShared() error {
	if err := r.reread(); err != nil {
		return err
	}
	s := r.current.Load()
	active, next := roles(s.keys)
	var err error
	switch kept := r.unexpired(s.keys); {
	case !r.suits(next):
		err = r.replaceNext(kept, active, next) // the configured algorithm has changed
	case r.rotationDue(active), active.method.Alg() != next.method.Alg():
		err = r.rotate(s.keys, next)
	case len(kept) < len(s.keys):
		if err = r.store(kept); err == nil {
			return r.publish(kept, active)
		}
	}
	switch {
	case errors.Is(err, store.ErrChanged):
		return r.reread()
	case errors.Is(err, store.ErrUnpublished): // a later refresh rotates
		return nil
	}
	return err
}

// reread reads the store and publishes its keys if they have changed.
func (r *Ring) reread() error {
	before := r.stored
	keys, err := r.read()
	if err != nil {
		return err
	}
	active, _ := roles(keys)
	switch {
	case active == nil:
		return errors.New("the store has no active signing key any more")
	case r.current.Load() != nil && store.SameKeys(before, r.stored):
		return nil
	}
	return r.publish(keys, active)
}

// rotateShared is Rotate for a shared store. If another process rotates at the same time, its rotation
// counts for both.
func (r *Ring) rotateShared() error {
	if err := r.reread(); err != nil {
		return err
	}
	s := r.current.Load()
	_, next := roles(s.keys)
	if next == nil {
		return errors.New("the store has no next signing key")
	}
	err := r.rotate(s.keys, next)
	if errors.Is(err, store.ErrChanged) {
		return r.reread()
	}
	return err
}

// replaceNext publishes a next key of the configured algorithm in place of next. The active key
// continues to sign until the new key may sign.
func (r *Ring) replaceNext(keys []*key, active, next *key) error {
	var kept []*key
	for _, k := range keys {
		if k != next {
			kept = append(kept, k)
		}
	}
	replacement, err := r.copyOrGenerate(nil, r.options.Now())
	if err != nil {
		return err
	}
	kept = append(kept, replacement)
	if err := r.store(kept); err != nil {
		return err
	}
	return r.publish(kept, active)
}

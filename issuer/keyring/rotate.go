package keyring

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/store"
)

const (
	// clockMargin is how long an old key is published past the end of its last token:
	// twice the longest leeway of a gate, 2 × 5 min.
	clockMargin = 10 * time.Minute

	// refreshInterval spaces the looks at the clock and at the files.
	refreshInterval = 10 * time.Second
)

// end returns when k, which has retired, is published no more.
func (r *Ring) expiry(k *key) time.Time {
	return k.retired.Add(r.options.TokenLifetime + clockMargin)
}

// openStore reads the keys of the store, makes those that are missing, and rotates what
// is due. That may wait: a store that can be read only is no reason to stand still.
func (r *Ring) openStore() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	stored, err := r.options.Store.Keys()
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	keys := make([]*key, 0, len(stored))
	for _, s := range stored {
		k, err := parse(s.Private, config.Algorithm(s.Algorithm))
		if err != nil {
			return fmt.Errorf("reading signing key %s: %w", s.ID, err)
		}
		k.created, k.activated, k.retired = s.Created, s.Activated, s.Retired
		keys = append(keys, k)
	}
	active, next := roles(keys)
	if r.options.Inspect {
		if active == nil {
			return errors.New("there are no signing keys yet")
		}
		return r.publish(keys, active)
	}
	fits := active != nil && next != nil && active.method.Alg() == string(r.options.Signing.Algorithm) && next.method.Alg() == active.method.Alg()
	if !fits {
		// The first start, or another algorithm: the keys of the old one go on counting.
		return r.rotate(keys, nil)
	}
	if r.rotationDue(active) {
		err := r.rotate(keys, next)
		if !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		// The disk is full, or the like. The keys that are there sign as well as before,
		// and Run tries again.
		r.health.report(err)
	}
	return r.publish(keys, active)
}

// roles returns the key that signs and the one that will sign next, nil for none.
func roles(keys []*key) (active, next *key) {
	for _, k := range keys {
		switch {
		case !k.retired.IsZero():
		case k.activated.IsZero():
			next = k
		default:
			active = k
		}
	}
	return active, next
}

// due reports whether the active key has signed for long enough.
func (r *Ring) rotationDue(active *key) bool {
	return r.options.Now().Sub(active.activated) >= r.options.Signing.Rotate
}

var errFiles = errors.New("the signing keys are files: put the next one first there")

// Rotate lets the next key sign from now on, which has been published since the last
// rotation, and publishes a new next one. On an error nothing has changed.
func (r *Ring) Rotate() error {
	if len(r.options.Signing.Files) > 0 {
		return errFiles
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.current.Load()
	_, next := roles(s.keys)
	return r.rotate(s.keys, next)
}

// rotate retires every key but next, which it makes if it is nil, lets that one sign,
// and makes the one after. It stores all before it publishes any. r.mu is held.
func (r *Ring) rotate(keys []*key, next *key) error {
	now := r.options.Now()
	var kept []*key
	for _, k := range keys {
		changed := *k
		if changed.retired.IsZero() && k != next {
			changed.retired = now
		}
		if k != next && (changed.retired.IsZero() || now.Before(r.expiry(&changed))) {
			kept = append(kept, &changed)
		}
	}
	active, err := r.copyOrGenerate(next, now)
	if err != nil {
		return err
	}
	active.activated = now
	after, err := r.copyOrGenerate(nil, now)
	if err != nil {
		return err
	}
	kept = append(kept, active, after)
	if err := r.store(kept); err != nil {
		return err
	}
	r.options.Log.Info("signing key rotated", "kid", active.id, "algorithm", active.method.Alg(), "next_kid", after.id)
	return r.publish(kept, active)
}

// fresh returns a copy of k, or a new key where k is nil.
func (r *Ring) copyOrGenerate(k *key, now time.Time) (*key, error) {
	if k != nil {
		changed := *k
		return &changed, nil
	}
	private, err := generate(r.options.Signing.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	made, err := newKey(private, r.options.Signing.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	made.created = now
	return made, nil
}

// save stores keys.
func (r *Ring) store(keys []*key) error {
	stored := make([]store.Key, 0, len(keys))
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return fmt.Errorf("encoding a signing key: %w", err)
		}
		stored = append(stored, store.Key{
			ID: k.id, Algorithm: k.method.Alg(), Private: der, Created: k.created, Activated: k.activated, Retired: k.retired,
		})
	}
	if err := r.options.Store.ReplaceKeys(stored); err != nil {
		return fmt.Errorf("storing the signing keys: %w", err)
	}
	return nil
}

// Run keeps the keys up to date until ctx ends, and then returns nil: it rotates them
// on schedule and drops old ones, or reads the files when they have changed.
func (r *Ring) Run(ctx context.Context) error {
	look := time.NewTicker(refreshInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		r.health.report(r.refresh())
	}
}

// refresh does what is due at this moment.
func (r *Ring) refresh() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.options.Signing.Files) > 0 {
		return r.reloadFiles()
	}
	s := r.current.Load()
	if r.rotationDue(s.active) {
		_, next := roles(s.keys)
		return r.rotate(s.keys, next)
	}
	kept := r.unexpired(s.keys)
	if len(kept) == len(s.keys) {
		return nil
	}
	if err := r.store(kept); err != nil {
		return err
	}
	return r.publish(kept, s.active)
}

// unended returns those of keys that are still to be published.
func (r *Ring) unexpired(keys []*key) (kept []*key) {
	now := r.options.Now()
	for _, k := range keys {
		if k.retired.IsZero() || now.Before(r.expiry(k)) {
			kept = append(kept, k)
		}
	}
	return kept
}

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
	// clockMargin is added to the time that a retired key stays published. It covers the leeway of
	// gates after the last token of the key has expired: twice the longest leeway, 2 × 5 min.
	clockMargin = 10 * time.Minute

	// refreshInterval is the time between refreshes. It is the longest delay until a due rotation or
	// a changed file is noticed.
	refreshInterval = 10 * time.Second
)

// expiry returns the time until which the retired key k is published.
func (r *Ring) expiry(k *key) time.Time {
	return k.retired.Add(r.options.TokenLifetime + clockMargin)
}

// openStore loads the keys of the store, generates missing keys and rotates the keys if a rotation is
// due. If the store cannot be written, the active key continues to sign, and Run retries the
// rotation.
func (r *Ring) openStore() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, err := r.read()
	if err != nil {
		return err
	}
	active, next := roles(keys)
	switch usable := r.suits(next) && active != nil && next.method.Alg() == active.method.Alg(); {
	case r.options.Inspect && active == nil:
		return errors.New("the store has no signing keys yet")
	case r.options.Inspect, r.options.Shared && active != nil:
		if err := r.publish(keys, active); err != nil || r.options.Inspect {
			return err
		}
		err := r.refreshShared()
		if errors.Is(err, store.ErrUnavailable) { // the clock may be wrong, for example; Run tries again
			r.health.report(err)
			return nil
		}
		return err
	case !usable:
		// This is the first start, or the configured algorithm has changed. Tokens of the previous
		// keys stay valid.
		err := r.rotate(keys, nil)
		if r.options.Shared && errors.Is(err, store.ErrChanged) { // another process has created the keys since
			return r.reread()
		}
		return err
	}
	if r.rotationDue(active) {
		err := r.rotate(keys, next)
		if !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		// The disk may be full, for example. The current keys continue to sign, and Run retries the
		// rotation.
		r.health.report(err)
	}
	return r.publish(keys, active)
}

// read returns the keys of the store. r.mu must be held.
func (r *Ring) read() ([]*key, error) {
	began := time.Since(r.opened)
	stored, err := r.options.Store.Keys()
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	keys := make([]*key, 0, len(stored))
	for _, s := range stored {
		k, err := parsePKCS8(s.Private, config.Algorithm(s.Algorithm))
		if err != nil {
			return nil, fmt.Errorf("reading signing key %s: %w", s.ID, err)
		}
		k.created, k.activated, k.retired = s.Created, s.Activated, s.Retired
		keys = append(keys, k)
	}
	r.stored = stored
	r.readAt.Store(int64(began))
	return keys, nil
}

// suits reports whether k may become the active key: it exists and has the configured algorithm.
func (r *Ring) suits(k *key) bool {
	return k != nil && k.method.Alg() == string(r.options.Signing.Algorithm)
}

// roles returns the active key and the next key. A result is nil if keys lacks the key.
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

// rotationDue reports whether the active key has reached its configured age.
func (r *Ring) rotationDue(active *key) bool {
	return r.options.Now().Sub(active.activated) >= r.options.Signing.Rotate
}

var errFiles = errors.New("the signing keys are files: list the next key first in issuer.signing.files")

// Rotate makes the next key the active key and publishes a new next key. The new active key has been
// published since the previous rotation. With an error nothing has changed.
func (r *Ring) Rotate() error {
	if len(r.options.Signing.Files) > 0 {
		return errFiles
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.options.Shared {
		return r.rotateShared()
	}
	s := r.current.Load()
	_, next := roles(s.keys)
	return r.rotate(s.keys, next)
}

// rotate retires every key except next, activates next, and adds a new next key. If next is nil,
// rotate generates the key that it activates. It stores all keys before it publishes any of them.
// r.mu must be held.
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

// copyOrGenerate returns a copy of k, or a new key if k is nil.
func (r *Ring) copyOrGenerate(k *key, now time.Time) (*key, error) {
	if k != nil {
		duplicate := *k
		return &duplicate, nil
	}
	private, err := generate(r.options.Signing.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("generating a signing key: %w", err)
	}
	generated, err := newKey(private, r.options.Signing.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("generating a signing key: %w", err)
	}
	generated.created = now
	return generated, nil
}

// store replaces the stored keys.
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
	if err := r.options.Store.ReplaceKeys(r.stored, stored); err != nil {
		return fmt.Errorf("storing the signing keys: %w", err)
	}
	r.stored = stored
	return nil
}

// Run refreshes the keys every refreshInterval until ctx ends, and then returns nil.
func (r *Ring) Run(ctx context.Context) error {
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		r.health.report(r.Refresh())
	}
}

// Refresh does now what Run does every refreshInterval: it rotates the keys if a rotation is due, and
// drops expired keys. If the keys are in files, it reads the files, and publishes their keys if they
// have changed.
func (r *Ring) Refresh() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.options.Signing.Files) > 0 {
		return r.reloadFiles()
	}
	if r.options.Shared {
		return r.refreshShared()
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

// unexpired returns the elements of keys that must stay published.
func (r *Ring) unexpired(keys []*key) (kept []*key) {
	now := r.options.Now()
	for _, k := range keys {
		if k.retired.IsZero() || now.Before(r.expiry(k)) {
			kept = append(kept, k)
		}
	}
	return kept
}

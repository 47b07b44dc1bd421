package store

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// mostInOne bounds what one transaction takes, so that no caller waits for ever.
const mostInOne = 1000

// A change is what one caller wants written.
type change struct {
	apply func(*bbolt.Tx) error // its error leaves the others alone; it must have changed nothing
	done  chan error            // takes the outcome, once
}

// update has apply carried out. It returns nil once the change is on the disk.
func (f *File) update(apply func(*bbolt.Tx) error) error {
	c := change{apply, make(chan error, 1)}
	select {
	case f.changes <- c:
		return <-c.done
	case <-f.quit:
		return ErrClosed
	}
}

// write carries out changes until Close. All that wait share a transaction: it is the
// disk that takes long, and it takes as long for one as for many.
func (f *File) write() {
	defer close(f.done)
	for {
		select {
		case <-f.quit:
			return
		case first := <-f.changes:
			f.commit(f.waiting(first))
		}
	}
}

// waiting returns first and the changes that wait behind it.
func (f *File) waiting(first change) []change {
	all := []change{first}
	for len(all) < mostInOne {
		select {
		case next := <-f.changes:
			all = append(all, next)
		default:
			return all
		}
	}
	return all
}

// commit carries out all in one transaction and tells each caller. What fails on its
// own account fails alone; what the disk refuses fails whole, and nothing is stored.
func (f *File) commit(all []change) {
	outcomes := make([]error, len(all))
	err := f.failed
	if err == nil {
		err = f.store(all, outcomes)
	}
	for i, c := range all {
		if err != nil {
			outcomes[i] = err // also of one that failed alone: it may have met another that is not there now
		}
		c.done <- outcomes[i]
	}
}

// store carries out all, and returns an error if nothing came of the whole. After one
// that leaves open what is on the disk it sets failed.
func (f *File) store(all []change, outcomes []error) error {
	var id int
	err := guarded(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error {
			id = tx.ID()
			for i, c := range all {
				outcomes[i] = c.apply(tx)
				if errors.Is(outcomes[i], errBroken) {
					return outcomes[i]
				}
			}
			return nil
		})
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errDamaged), !f.precedes(id):
		f.failed = fmt.Errorf("%q is not written to until the next start: %w", f.path, err)
		return f.failed
	}
	return fmt.Errorf("writing %q: %w: %w", f.path, ErrUnavailable, err)
}

// precedes reports whether the file still is as before the transaction with this id,
// which failed. It is not when only the last sync failed: then the transaction is in
// memory and perhaps not on the disk, and the next would overwrite what it replaced,
// without which there may be nothing to come back to.
func (f *File) precedes(id int) bool {
	err := guarded(func() error {
		return f.db.View(func(tx *bbolt.Tx) error {
			if tx.ID() >= id {
				return errBroken
			}
			return nil
		})
	})
	return err == nil
}

// errBroken is of a change that failed half-way: the transaction must not be kept.
var errBroken = errors.New("the file did not take the change")

// broken returns err, unless it is nil, as one that ends the transaction.
func broken(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

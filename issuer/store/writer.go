package store

// Changes of concurrent callers share a transaction. DB.Batch of bbolt does this too, but after a
// failed fsync it continues to write to a file whose content is unknown.

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// maxBatch bounds the changes of one transaction, so that every caller gets a result after a bounded
// time.
const maxBatch = 1000

// A change is a write that one caller requests.
type change struct {
	apply     func(*bbolt.Tx) error // if apply returns an error, it must have changed nothing; the other changes are kept
	committed func()                // called after the commit and before the result is sent, in the order of the changes; nil means nothing
	done      chan error            // receives the result
}

// update calls apply in a transaction and returns nil once the change that apply made is on the disk.
func (f *File) update(apply func(*bbolt.Tx) error) error { return f.updateThen(apply, nil) }

// updateThen is update, and calls committed between the commit and the return.
func (f *File) updateThen(apply func(*bbolt.Tx) error, committed func()) error {
	c := change{apply, committed, make(chan error, 1)}
	select {
	case f.changes <- c:
		return <-c.done
	case <-f.quit:
		return ErrClosed
	}
}

// write commits changes until Close is called. Waiting changes share a transaction, because a sync of
// the disk takes as long for many changes as for one change.
func (f *File) write() {
	defer close(f.done)
	for {
		select {
		case <-f.quit:
			return
		case first := <-f.changes:
			f.commit(f.batch(first))
		}
	}
}

// batch returns first and the changes that are waiting, at most maxBatch.
func (f *File) batch(first change) []change {
	all := []change{first}
	for len(all) < maxBatch {
		select {
		case next := <-f.changes:
			all = append(all, next)
		default:
			return all
		}
	}
	return all
}

// commit applies all changes in one transaction and sends the results to the callers. If only one
// change fails, the other changes are kept. If the disk fails, nothing is stored, and every change
// gets the error.
func (f *File) commit(all []change) {
	outcomes := make([]error, len(all))
	err := f.failed
	if err == nil {
		err = f.apply(all, outcomes)
	}
	for i, c := range all {
		if err != nil {
			outcomes[i] = err // replaces the error of a change that failed alone: this change may have read the writes of a change that is now undone
		}
		if outcomes[i] == nil && c.committed != nil {
			c.committed()
		}
		c.done <- outcomes[i]
	}
}

// apply applies all changes, and returns an error if the transaction failed. If the content of the
// disk is unknown after the error, it sets f.failed.
func (f *File) apply(all []change, outcomes []error) error {
	var id int
	err := catchFaults(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error {
			id = tx.ID()
			for i, c := range all {
				outcomes[i] = c.apply(tx)
				if errors.Is(outcomes[i], errAborted) {
					return outcomes[i]
				}
			}
			return nil
		})
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errCorrupt), !f.isUnchanged(id):
		f.failed = fmt.Errorf("%q accepts no writes until the next start: %w", f.path, err)
		return f.failed
	}
	return fmt.Errorf("writing %q: %w: %w", f.path, ErrUnavailable, err)
}

// isUnchanged reports whether the file has the same content as before the failed transaction with
// this id. If only the last sync failed, the content has changed: the transaction is in memory and
// perhaps on the disk, and the next transaction would overwrite pages that a recovery needs.
func (f *File) isUnchanged(id int) bool {
	err := catchFaults(func() error {
		return f.db.View(func(tx *bbolt.Tx) error {
			if tx.ID() >= id {
				return errAborted
			}
			return nil
		})
	})
	return err == nil
}

// errAborted marks a change that failed half-way. Its transaction must be rolled back.
var errAborted = errors.New("writing a change failed")

// abort returns err as an error that rolls back the transaction. If err is nil, it returns nil.
func abort(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errAborted, err)
}

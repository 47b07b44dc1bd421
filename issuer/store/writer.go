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
	err := f.db.Update(func(tx *bbolt.Tx) error {
		for i, c := range all {
			outcomes[i] = c.apply(tx)
			if errors.Is(outcomes[i], errBroken) {
				return outcomes[i]
			}
		}
		return nil
	})
	for i, c := range all {
		if err != nil {
			outcomes[i] = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		c.done <- outcomes[i]
	}
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

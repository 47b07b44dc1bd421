package postgres

import (
	"errors"
	"sync"

	"github.com/tallygate/tallygate/issuer/store"
)

// maxBatch bounds the changes of one transaction.
const maxBatch = 1000

// A batcher commits the changes of concurrent callers together, because a commit takes as long for
// many changes as for one change.
type batcher[T any] struct {
	commit  func([]T) ([]error, error)
	changes chan change[T]
	quit    chan struct{} // closed by stop
	done    chan struct{} // closed when run has returned
	once    sync.Once
}

type change[T any] struct {
	value T
	done  chan error
}

// newBatcher returns a batcher whose commit stores values in one transaction. Commit returns the
// outcome of each value, or an error if it has stored nothing.
func newBatcher[T any](commit func([]T) ([]error, error)) *batcher[T] {
	b := &batcher[T]{commit: commit, changes: make(chan change[T]), quit: make(chan struct{}), done: make(chan struct{})}
	go b.run()
	return b
}

// add returns nil once value is committed.
func (b *batcher[T]) add(value T) error {
	c := change[T]{value, make(chan error, 1)}
	select {
	case b.changes <- c:
		return <-c.done
	case <-b.quit:
		return store.ErrClosed
	}
}

// stop waits until the running transaction has ended.
func (b *batcher[T]) stop() {
	b.once.Do(func() { close(b.quit) })
	<-b.done
}

func (b *batcher[T]) run() {
	defer close(b.done)
	for {
		select {
		case <-b.quit:
			return
		case first := <-b.changes:
			b.store(b.collect(first))
		}
	}
}

// collect returns first and the changes that are waiting.
func (b *batcher[T]) collect(first change[T]) []change[T] {
	all := []change[T]{first}
	for len(all) < maxBatch {
		select {
		case next := <-b.changes:
			all = append(all, next)
		default:
			return all
		}
	}
	return all
}

// store commits all changes. If one of the values cannot be stored, each change gets a transaction of
// its own, so that only the caller of the faulty value gets the error.
func (b *batcher[T]) store(all []change[T]) {
	values := make([]T, len(all))
	for i, c := range all {
		values[i] = c.value
	}
	outcomes, err := b.commit(values)
	if err != nil && len(all) > 1 && !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrClosed) {
		for _, c := range all {
			b.store([]change[T]{c})
		}
		return
	}
	for i, c := range all {
		if err != nil {
			c.done <- err
		} else {
			c.done <- outcomes[i]
		}
	}
}

package introspect

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tallygate/tallygate/access"
)

// errTurn marks a call that was not made because too many others were under way. It says
// nothing of the server.
var errTurn = errors.New("waiting for a turn")

// turns bound the calls that are under way at a server, all together and those for the
// holder of one certificate: a quarter, so that nobody who sends made-up tokens takes
// the turns of the others.
type turns struct {
	all chan struct{} // holds one value for each call under way

	mu      sync.Mutex
	holders map[access.Thumbprint]*share
}

// A share is the turns of one holder.
type share struct {
	turns chan struct{}
	users int // who wait for one or have one; at 0 the share is forgotten
}

func newTurns(concurrency int) *turns {
	return &turns{all: make(chan struct{}, concurrency), holders: make(map[access.Thumbprint]*share)}
}

// try takes a turn that needs no waiting, for nobody in particular.
func (t *turns) try() bool {
	select {
	case t.all <- struct{}{}:
		return true
	default:
		return false
	}
}

// end gives back what try took.
func (t *turns) end() { <-t.all }

// begin waits for a turn of holder. After a nil error the turn must be released.
func (t *turns) begin(ctx context.Context, holder access.Thumbprint) error {
	s := t.join(holder)
	select {
	case s.turns <- struct{}{}:
	case <-ctx.Done():
		t.leave(holder, s)
		return fmt.Errorf("%w among those of one certificate: %w", errTurn, ctx.Err())
	}
	select {
	case t.all <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-s.turns
		t.leave(holder, s)
		return fmt.Errorf("%w: %w", errTurn, ctx.Err())
	}
}

// release gives back what begin took.
func (t *turns) release(holder access.Thumbprint) {
	<-t.all
	t.mu.Lock()
	s := t.holders[holder]
	t.mu.Unlock()
	<-s.turns
	t.leave(holder, s)
}

func (t *turns) join(holder access.Thumbprint) *share {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.holders[holder]
	if s == nil {
		s = &share{turns: make(chan struct{}, max(1, cap(t.all)/4))}
		t.holders[holder] = s
	}
	s.users++
	return s
}

func (t *turns) leave(holder access.Thumbprint, s *share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(t.holders, holder)
	}
}

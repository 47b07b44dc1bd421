package introspect

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tallygate/tallygate/access"
)

// errTurn marks a call that was not made because too many others were under way.
var errTurn = errors.New("no turn to ask")

// queue is how many may have a turn or wait for one, for each turn there is. With the
// default of 64 turns that is 1,024 calls, of 25 KiB each at most: a token of 16 KiB and
// a goroutine.
const queue = 16

// turns bound the calls that are under way at a server, so that nobody who sends made-up
// tokens takes the turns of the others: the holder of one certificate has a quarter of
// them at most, and all certificates of one authority half, for whoever has an authority
// of its own makes as many certificates as it likes. Certificates of no authority, which
// anybody makes, count as one's.
type turns struct {
	mu          sync.Mutex
	all         *share
	authorities map[access.AnchorKey]*share
	holders     map[access.Thumbprint]*share
}

// A share is some of the turns. Whoever has a place in it may wait for one.
type share struct {
	turns  chan struct{} // holds one value for each that is taken
	places int           // taken; a share of which none is taken is forgotten
}

func newShare(turns int) *share { return &share{turns: make(chan struct{}, max(1, turns))} }

func (s *share) full() bool { return s.places >= queue*cap(s.turns) }

func newTurns(concurrency int) *turns {
	return &turns{
		all: newShare(concurrency), authorities: make(map[access.AnchorKey]*share),
		holders: make(map[access.Thumbprint]*share),
	}
}

// try takes a turn that needs no waiting, for nobody in particular.
func (t *turns) try() bool {
	select {
	case t.all.turns <- struct{}{}:
		return true
	default:
		return false
	}
}

// end gives back what try took.
func (t *turns) end() { <-t.all.turns }

// begin waits for a turn of cert's holder until ctx ends, and not at all where too many
// already do. The turn must be given back by end, which is nil with an error.
func (t *turns) begin(ctx context.Context, cert *access.Certificate) (end func(), err error) {
	line, err := t.join(cert)
	if err != nil {
		return nil, err
	}
	for i, s := range line {
		select {
		case s.turns <- struct{}{}:
		case <-ctx.Done():
			t.leave(cert, line, i)
			return nil, fmt.Errorf("%w in time: %w", errTurn, ctx.Err())
		}
	}
	return func() { t.leave(cert, line, len(line)) }, nil
}

// A line is the shares that a turn comes from, in the order in which they are waited for:
// who waits for his own keeps nobody else waiting.
type line [3]*share

// join takes a place in each share of cert.
func (t *turns) join(cert *access.Certificate) (line, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	holder, authority := t.holders[cert.Thumbprint], t.authorities[authorityOf(cert)]
	if holder == nil {
		holder = newShare(cap(t.all.turns) / 4)
	}
	if authority == nil {
		authority = newShare(cap(t.all.turns) / 2)
	}
	l := line{holder, authority, t.all}
	for _, s := range l {
		if s.full() {
			return line{}, fmt.Errorf("%w: %d calls are waiting for theirs", errTurn, s.places)
		}
	}
	t.holders[cert.Thumbprint], t.authorities[authorityOf(cert)] = holder, authority
	for _, s := range l {
		s.places++
	}
	return l, nil
}

// leave gives back the places in l, and the turns in as many of its shares as are taken.
func (t *turns) leave(cert *access.Certificate, l line, taken int) {
	for _, s := range l[:taken] {
		<-s.turns
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range l {
		s.places--
	}
	if l[0].places == 0 {
		delete(t.holders, cert.Thumbprint)
	}
	if l[1].places == 0 {
		delete(t.authorities, authorityOf(cert))
	}
}

// authorityOf returns the anchor that stands for all of cert's, the least one; zero for
// none. A holder does not choose it: which anchors there are to lead to is configured.
func authorityOf(cert *access.Certificate) (least access.AnchorKey) {
	for i, a := range cert.Anchors {
		if i == 0 || string(a[:]) < string(least[:]) {
			least = a
		}
	}
	return least
}

// holderOf returns the owner of what is remembered of inactive tokens that came with cert,
// whose partner is not known: all certificates of one authority are one owner.
func holderOf(cert *access.Certificate) string {
	authority := authorityOf(cert)
	return string(authority[:])
}

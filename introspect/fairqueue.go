package introspect

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tallygate/tallygate/access"
)

// errTurn marks a call that was not made because too many others were under way.
var errNoPermit = errors.New("no turn to ask")

// queue is how many may have a turn or wait for one, for each turn there is. With the
// default of 64 turns that is 1,024 calls, of 25 KiB each at most: a token of 16 KiB and
// a goroutine.
const maxUsersPerPermit = 16

// turns bound the calls that are under way at a server, so that nobody who sends made-up
// tokens takes the turns of the others: the holder of one certificate has a quarter of
// them at most, and all certificates of one authority half, for whoever has an authority
// of its own makes as many certificates as it likes. Certificates of no authority, which
// anybody makes, count as one's.
type fairQueue struct {
	mu           sync.Mutex
	all          *bucket
	authorities  map[access.AnchorKey]*bucket
	certificates map[access.Thumbprint]*bucket
}

// A share is some of the turns. Whoever has a place in it may wait for one.
type bucket struct {
	permits chan struct{} // holds one value for each that is taken
	users   int           // taken; a share of which none is taken is forgotten
}

func newBucket(turns int) *bucket { return &bucket{permits: make(chan struct{}, max(1, turns))} }

func (s *bucket) full() bool { return s.users >= maxUsersPerPermit*cap(s.permits) }

func newFairQueue(concurrency int) *fairQueue {
	return &fairQueue{
		all: newBucket(concurrency), authorities: make(map[access.AnchorKey]*bucket),
		certificates: make(map[access.Thumbprint]*bucket),
	}
}

// try takes a turn that needs no waiting, for nobody in particular.
func (t *fairQueue) tryAcquire() bool {
	select {
	case t.all.permits <- struct{}{}:
		return true
	default:
		return false
	}
}

// end gives back what try took.
func (t *fairQueue) release() { <-t.all.permits }

// begin waits for a turn of cert's holder until ctx ends, and not at all where too many
// already do. The turn must be given back by end, which is nil with an error.
func (t *fairQueue) acquire(ctx context.Context, cert *access.Certificate) (end func(), err error) {
	line, err := t.enter(cert)
	if err != nil {
		return nil, err
	}
	for i, s := range line {
		select {
		case s.permits <- struct{}{}:
		case <-ctx.Done():
			t.exit(cert, line, i)
			return nil, fmt.Errorf("%w in time: %w", errNoPermit, ctx.Err())
		}
	}
	return func() { t.exit(cert, line, len(line)) }, nil
}

// A line is the shares that a turn comes from, in the order in which they are waited for:
// who waits for his own keeps nobody else waiting.
type path [3]*bucket

// join takes a place in each share of cert.
func (t *fairQueue) enter(cert *access.Certificate) (path, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	holder, authority := t.certificates[cert.Thumbprint], t.authorities[authorityOf(cert)]
	if holder == nil {
		holder = newBucket(cap(t.all.permits) / 4)
	}
	if authority == nil {
		authority = newBucket(cap(t.all.permits) / 2)
	}
	l := path{holder, authority, t.all}
	for _, s := range l {
		if s.full() {
			return path{}, fmt.Errorf("%w: %d calls are waiting for theirs", errNoPermit, s.users)
		}
	}
	t.certificates[cert.Thumbprint], t.authorities[authorityOf(cert)] = holder, authority
	for _, s := range l {
		s.users++
	}
	return l, nil
}

// leave gives back the places in l, and the turns in as many of its shares as are taken.
func (t *fairQueue) exit(cert *access.Certificate, l path, taken int) {
	for _, s := range l[:taken] {
		<-s.permits
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range l {
		s.users--
	}
	if l[0].users == 0 {
		delete(t.certificates, cert.Thumbprint)
	}
	if l[1].users == 0 {
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
func ownerOfInactive(cert *access.Certificate) string {
	authority := authorityOf(cert)
	return string(authority[:])
}

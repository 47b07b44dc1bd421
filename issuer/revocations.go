package issuer

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

const (
	// revocationRetention is how long a revocation is kept after the token's exp: twice the longest
	// leeway that a gate can be configured with, 2 × 5 min. So a gate whose clock is slow never
	// accepts the token again within its leeway.
	revocationRetention = 10 * time.Minute

	// maxTokenLifetime is the longest lifetime that can be configured for a token.
	maxTokenLifetime = 24 * time.Hour

	// maxRevocations bounds the memory: 2^20 entries of 32 + 8 bytes are 40 MiB, and at most twice
	// as much with the unused part of the maps. The revocation of a token with a lifetime of 5 min is
	// kept for at most 5 min + revocationRetention = 900 s, so there is room for 2^20 / 900 s ≈ 1165
	// revocations a second. It is half of revocation.MaxEntries, so that operators, who have no limit,
	// and requests at other issuers at the same moment still find room.
	maxRevocations = 1 << 20

	// shares says which part of maxRevocations one client may have, so that no client can prevent
	// revocations by other clients: a sixteenth, 2^16 / 900 s ≈ 73 revocations a second.
	shares = 16

	// sweepInterval is the time between sweeps, each of which visits every entry.
	sweepInterval = time.Minute
)

// revocations has all stored revocations in memory. A revocation takes effect as soon as it is
// stored. When the memory or a client's share is full, the next revocation of a token is refused, and
// no stored revocation is dropped. revocations is safe for concurrent use.
type revocations struct {
	set     *revocation.Set
	state   state
	limit   int // of revoked tokens
	foreign int // of the revocations of each kind by other authorization servers
	// publish is called with each page of the state's log after the revocations of the page are in set, unless complete
	// returns an error. Nil means that nothing reads the log.
	publish func(store.Page)

	missed   atomic.Int64 // number of stored revocations that set did not take
	restored atomic.Int64 // the part of missed that a later reading of the state has put into set

	mu     sync.Mutex
	shares map[owner]*share
}

// An owner is a client that has revoked tokens, or the identifier of another authorization server that has revoked its own
// tokens or subjects.
type owner struct {
	kind revocation.Kind
	name string
}

// ownerOf returns the owner to whose share r belongs. limited is false for the revocations by operators.
func ownerOf(r *store.Revocation) (_ owner, limited bool) {
	switch r.Kind { //nolint:exhaustive // the other kinds are for operators
	case revocation.Token, revocation.ForeignToken, revocation.ForeignSubject:
		return owner{r.Kind, r.Client}, r.Client != ""
	}
	return owner{}, false
}

// limits returns the bound of the revocations of this kind, and the bound of one share.
func (s *revocations) limits(kind revocation.Kind) (all, each int) {
	if kind == revocation.Token {
		return s.limit, s.limit / shares
	}
	return s.foreign, s.foreign / foreignShares
}

// weight returns the number of revocations for which r counts in its share. A subject at another authorization server,
// which chooses its length, counts once for each 256 bytes, so that a share takes at most 2^18 × (256 + 170) × 4/3 = 142
// MiB of a snapshot.
func weight(r *store.Revocation) int { return 1 + revocation.JSONSize(r.Subject)/256 }

// A share counts the revocations of an owner that are in the set.
type share struct {
	total    int
	byMinute map[int64]int // by Until in minutes since 1970, so that no second copy of the hashes is needed
}

func newRevocations() *revocations {
	return &revocations{set: revocation.NewSet(), limit: maxRevocations, foreign: maxForeign, shares: make(map[owner]*share)}
}

// load reads the revocations in state.
func (s *revocations) load(state state) error {
	s.state = state
	return state.Revocations(func(r store.Revocation) error { return s.put(&r) })
}

// add stores r and returns nil once r is durable and in effect. Every error is a refusal.
func (s *revocations) add(r store.Revocation) error {
	if s.isFull(&r) {
		return refuse(temporarilyUnavailable, "the limit of held revocations is reached")
	}
	if err := s.state.Revoke(r); err != nil {
		return storeRefusal(err)
	}
	if err := s.put(&r); err != nil {
		return &refusal{temporarilyUnavailable, err}
	}
	return nil
}

// take puts a page of the state's log into effect, and publishes it.
func (s *revocations) take(page store.Page) {
	for i := range page.Additions {
		_ = s.put(&page.Additions[i].Revocation) // complete returns the error
	}
	if s.publish != nil {
		s.publish(page)
	}
}

// isFull reports whether r would exceed a limit. Concurrent requests may together exceed a limit by a
// few entries.
func (s *revocations) isFull(r *store.Revocation) bool {
	of, limited := ownerOf(r)
	if e := r.Entry(); !limited || s.set.Has(&e) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all, each := s.limits(r.Kind)
	own := s.shares[of]
	return s.set.Len(r.Kind) >= all || own != nil && own.total >= each
}

// put puts r, which is stored, into effect. After an error the set is no longer complete.
func (s *revocations) put(r *store.Revocation) error {
	err := s.count(r)
	if err != nil {
		s.missed.Add(1)
		return fmt.Errorf("a stored revocation cannot be held: %w", err)
	}
	return nil
}

// count puts r into the set, and adds the growth of the set to the share of the owner of r.
func (s *revocations) count(r *store.Revocation) error {
	of, limited := ownerOf(r)
	e := r.Entry()
	if !limited {
		return s.set.Add(e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.set.Has(&e)
	if err := s.set.Add(e); err != nil || known {
		return err
	}
	own := s.shares[of]
	if own == nil {
		own = &share{byMinute: make(map[int64]int)}
		s.shares[of] = own
	}
	n := weight(r)
	own.total += n
	own.byMinute[r.Until.Unix()/60] += n
	return nil
}

var errIncomplete = errors.New("a stored revocation is not held: there is no room for it, or a later release has stored it")

// complete returns an error that wraps [store.ErrUnavailable] if the set lacks a stored revocation.
func (s *revocations) complete() error {
	if s.missed.Load() != s.restored.Load() {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, errIncomplete)
	}
	return nil
}

// sweep removes revocations of tokens whose retention has ended. If the set lacks a stored revocation, sweep then reads
// the state again, because there may be room for it now.
func (s *revocations) sweep(now time.Time) {
	s.set.Sweep(now)
	s.sweepShares(now)
	missed := s.missed.Load()
	if missed == s.restored.Load() {
		return
	}
	if err := s.load(s.state); err == nil {
		s.restored.Store(missed)
	}
}

// sweepShares removes the counts of minutes that have ended. A token that has left the set counts until the end of its
// minute.
func (s *revocations) sweepShares(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of, own := range s.shares {
		for minute, n := range own.byMinute {
			if (minute+1)*60 <= now.Unix() {
				own.total -= n
				delete(own.byMinute, minute)
			}
		}
		if own.total == 0 {
			delete(s.shares, of)
		}
	}
}

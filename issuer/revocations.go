package issuer

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"
)

const (
	// afterlife is how long a revocation is held past the token's exp: twice the
	// longest leeway that a gate can be configured with, 2 × 5 min, so that no
	// token comes back to life in the leeway of a gate whose clock is a little slow.
	afterlife = 10 * time.Minute

	// maxRevocations bounds the memory: 2^18 entries of 32 + 24 bytes are 14 MiB, and
	// at most twice that in a map's spare room. With tokens of 5 min each is held for
	// up to 15 min, which leaves room for 2^18 / 900 s ≈ 290 revocations a second.
	maxRevocations = 1 << 18

	// clientShare is what one client may hold of them, so that none can keep the
	// others from revoking: 2^14 / 900 s ≈ 18 a second.
	clientShare = maxRevocations / 16

	// sweepEvery spaces the sweeps, each of which walks over all entries.
	sweepEvery = time.Minute
)

// revocations is the set of revoked tokens. Only a token that this issuer signed
// gets in, once, and it leaves some time after it has expired; when the set or its
// client's share is full all the same, the next revocation is refused and none is
// forgotten. It is safe for concurrent use.
type revocations struct {
	mu      sync.RWMutex
	entries map[[sha256.Size]byte]revocation // by the SHA-256 of the jti
	held    map[string]int                   // by client, how many of entries
	swept   time.Time
}

type revocation struct {
	until  int64 // when to forget it, Unix seconds
	client string
}

func newRevocations() *revocations {
	return &revocations{entries: make(map[[sha256.Size]byte]revocation), held: make(map[string]int)}
}

// contains reports whether the token with this jti is in the set.
func (s *revocations) contains(id string) bool {
	sum := sha256.Sum256([]byte(id))
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.entries[sum]
	return ok
}

// add puts the token with this jti, which client was issued, into the set at least
// until the given time, and reports whether it is in.
func (s *revocations) add(id, client string, until, now time.Time) bool {
	sum := sha256.Sum256([]byte(id))
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) >= sweepEvery {
		s.sweep(now)
	}
	if _, ok := s.entries[sum]; !ok {
		if len(s.entries) >= maxRevocations || s.held[client] >= clientShare {
			return false
		}
		s.held[client]++
	}
	s.entries[sum] = revocation{until.Unix(), client}
	return true
}

// sweep forgets what is over. s.mu is held.
func (s *revocations) sweep(now time.Time) {
	maps.DeleteFunc(s.entries, func(_ [sha256.Size]byte, r revocation) bool { return r.until < now.Unix() })
	clear(s.held)
	for _, r := range s.entries {
		s.held[r.client]++
	}
	s.swept = now
}

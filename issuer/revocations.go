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

	// maxRevocations bounds the memory: 2^18 entries of 32 + 8 bytes are 10 MiB, and
	// at most twice that in a map's spare room. With tokens of 5 min each is held for
	// up to 15 min, which leaves room for 2^18 / 900 s ≈ 290 revocations a second.
	maxRevocations = 1 << 18

	// sweepEvery spaces the sweeps, each of which walks over all entries.
	sweepEvery = time.Minute
)

// revocations is the set of revoked tokens. Only a token that this issuer signed
// gets in, once, and it leaves some time after it has expired; when the set is full
// all the same, the next revocation is refused and none is forgotten. It is safe
// for concurrent use.
type revocations struct {
	mu    sync.RWMutex
	until map[[sha256.Size]byte]int64 // SHA-256 of the jti -> when to forget it, Unix seconds
	swept time.Time
}

func newRevocations() *revocations {
	return &revocations{until: make(map[[sha256.Size]byte]int64)}
}

// contains reports whether the token with this jti is in the set.
func (s *revocations) contains(id string) bool {
	sum := sha256.Sum256([]byte(id))
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.until[sum]
	return ok
}

// add puts the token with this jti into the set at least until the given time, and
// reports whether it is in.
func (s *revocations) add(id string, until, now time.Time) bool {
	sum := sha256.Sum256([]byte(id))
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) >= sweepEvery {
		maps.DeleteFunc(s.until, func(_ [sha256.Size]byte, until int64) bool { return until < now.Unix() })
		s.swept = now
	}
	if _, ok := s.until[sum]; !ok && len(s.until) >= maxRevocations {
		return false
	}
	s.until[sum] = until.Unix()
	return true
}

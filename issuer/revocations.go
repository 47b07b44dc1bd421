package issuer

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/issuer/store"
)

const (
	// afterlife is how long a revocation is held past the token's exp: twice the
	// longest leeway that a gate can be configured with, 2 × 5 min, so that no
	// token comes back to life in the leeway of a gate whose clock is a little slow.
	afterlife = 10 * time.Minute

	// longestLifetime is the longest that a token can be configured to live.
	longestLifetime = 24 * time.Hour

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

// revocations answers from memory what the state holds: a revocation counts from the
// moment at which it is stored. When memory or a client's share is full, the next
// revocation of a token is refused and none is forgotten. It is safe for concurrent
// use.
type revocations struct {
	state store.Store

	mu           sync.RWMutex
	tokens       map[[sha256.Size]byte]revokedToken // by the SHA-256 of the jti
	held         map[string]int                     // by client, how many of tokens
	applications map[string]int64                   // client_id: issued up to, Unix seconds
	partners     map[string]int64                   // name: issued up to, Unix seconds
	certificates map[access.Thumbprint]bool
}

type revokedToken struct {
	until  int64 // when to forget it, Unix seconds
	client string
}

func newRevocations() *revocations {
	return &revocations{
		tokens: make(map[[sha256.Size]byte]revokedToken), held: make(map[string]int),
		applications: make(map[string]int64), partners: make(map[string]int64),
		certificates: make(map[access.Thumbprint]bool),
	}
}

// open reads what state holds.
func (s *revocations) open(state store.Store) error {
	s.state = state
	return state.Revocations(func(r store.Revocation) error {
		s.publish(r)
		return nil
	})
}

// revokes reports whether a token with this jti is revoked, or any that the
// application, or the partner, was issued at that time, or any bound to the thumbprint.
func (s *revocations) revokes(id, client, partner string, bound access.Thumbprint, issued int64) bool {
	sum := sha256.Sum256([]byte(id))
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, ok := s.tokens[sum]; ok {
		return true
	}
	return reaches(s.applications, client, issued) || reaches(s.partners, partner, issued) || s.certificates[bound]
}

// reaches reports whether all tokens issued to name up to some second are revoked, and
// issued is no later.
func reaches(upTo map[string]int64, name string, issued int64) bool {
	last, ok := upTo[name]
	return ok && issued <= last
}

// certificate reports whether the certificate with this thumbprint has been revoked.
func (s *revocations) certificate(t access.Thumbprint) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.certificates[t]
}

// add stores r, and returns nil once it is durable and counts. Its errors are refusals.
func (s *revocations) add(r store.Revocation) error {
	if s.full(r) {
		return refuse(temporarilyUnavailable, "too many revocations are held")
	}
	if err := s.state.Revoke(r); err != nil {
		return unstored(err)
	}
	s.publish(r)
	return nil
}

// full reports whether there is no room for r. Requests that ask at the same time may
// together take a few places more than there are.
func (s *revocations) full(r store.Revocation) bool {
	if r.Kind != store.RevokedToken || r.Client == "" { // an operator always may
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, known := s.tokens[sumOf(r)]
	return !known && (len(s.tokens) >= maxRevocations || s.held[r.Client] >= clientShare)
}

// publish lets r count.
func (s *revocations) publish(r store.Revocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Kind {
	case store.RevokedToken:
		sum := sumOf(r)
		held, known := s.tokens[sum]
		if !known {
			s.held[r.Client]++
			held.client = r.Client
		}
		s.tokens[sum] = revokedToken{max(held.until, r.Until.Unix()), held.client}
	case store.RevokedApplication:
		s.applications[r.Subject] = max(s.applications[r.Subject], r.IssuedBy.Unix())
	case store.RevokedPartner:
		s.partners[r.Subject] = max(s.partners[r.Subject], r.IssuedBy.Unix())
	case store.RevokedCertificate:
		if t, err := access.ParseThumbprint(r.Subject); err == nil {
			s.certificates[t] = true
		}
	}
}

// sumOf returns the SHA-256 of the jti that r, which is of a token, revokes.
func sumOf(r store.Revocation) (sum [sha256.Size]byte) {
	copy(sum[:], r.Subject)
	return sum
}

// sweep forgets the tokens that are over. What is revoked of an application or a
// partner is one number each and stays.
func (s *revocations) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.tokens, func(_ [sha256.Size]byte, r revokedToken) bool { return r.until < now.Unix() })
	clear(s.held)
	for _, r := range s.tokens {
		s.held[r.client]++
	}
}

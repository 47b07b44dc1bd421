package issuer

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"github.com/tallygate/tallygate/access"
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

	// maxRevocations bounds the memory: 2^18 entries of 32 + 24 bytes are 14 MiB, and at most twice
	// as much with the unused part of the map. The revocation of a token with a lifetime of 5 min is
	// kept for at most 5 min + revocationRetention = 900 s, so there is room for 2^18 / 900 s ≈ 290
	// revocations a second.
	maxRevocations = 1 << 18

	// maxPerClient is the number of revocations that one client may have, so that no client can
	// prevent revocations by other clients: 2^14 / 900 s ≈ 18 revocations a second.
	maxPerClient = maxRevocations / 16

	// sweepInterval is the time between sweeps, each of which visits every entry.
	sweepInterval = time.Minute
)

// revocations has all stored revocations in memory. A revocation takes effect as soon as it is
// stored. When the memory or a client's share is full, the next revocation of a token is refused, and
// no stored revocation is dropped. revocations is safe for concurrent use.
type revocations struct {
	state state

	mu           sync.RWMutex
	tokens       map[[sha256.Size]byte]revokedToken // by the SHA-256 of the jti
	perClient    map[string]int                     // number of tokens by client
	applications map[string]int64                   // by client_id: tokens issued up to this time are revoked, Unix seconds
	partners     map[string]int64                   // by name: tokens issued up to this time are revoked, Unix seconds
	certificates map[access.Thumbprint]bool
}

type revokedToken struct {
	until  int64 // when the retention ends, Unix seconds
	client string
}

func newRevocations() *revocations {
	return &revocations{
		tokens: make(map[[sha256.Size]byte]revokedToken), perClient: make(map[string]int),
		applications: make(map[string]int64), partners: make(map[string]int64),
		certificates: make(map[access.Thumbprint]bool),
	}
}

// load reads the revocations in state.
func (s *revocations) load(state state) error {
	s.state = state
	return state.Revocations(func(r store.Revocation) error {
		s.publish(r)
		return nil
	})
}

// revokes reports whether a token is revoked: by its jti id, by its client or partner if the token
// was issued at the time issued, or by the thumbprint bound that the token is bound to.
func (s *revocations) revokes(id, client, partner string, bound access.Thumbprint, issued int64) bool {
	sum := sha256.Sum256([]byte(id))
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, ok := s.tokens[sum]; ok {
		return true
	}
	return coversIssue(s.applications, client, issued) || coversIssue(s.partners, partner, issued) || s.certificates[bound]
}

// coversIssue reports whether a token that was issued to name at the time issued is revoked.
func coversIssue(upTo map[string]int64, name string, issued int64) bool {
	last, ok := upTo[name]
	return ok && issued <= last
}

// certificate reports whether the certificate with thumbprint t is revoked.
func (s *revocations) certificate(t access.Thumbprint) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.certificates[t]
}

// add stores r and returns nil once r is durable and in effect. Every error is a refusal.
func (s *revocations) add(r store.Revocation) error {
	if s.isFull(r) {
		return refuse(temporarilyUnavailable, "the limit of held revocations is reached")
	}
	if err := s.state.Revoke(r); err != nil {
		return storeRefusal(err)
	}
	s.publish(r)
	return nil
}

// isFull reports whether r would exceed a limit. Concurrent requests may together exceed a limit by a
// few entries.
func (s *revocations) isFull(r store.Revocation) bool {
	if r.Kind != revocation.Token || r.Client == "" { // there is no limit for operators
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, known := s.tokens[sumOf(r)]
	return !known && (len(s.tokens) >= maxRevocations || s.perClient[r.Client] >= maxPerClient)
}

// take puts the revocations of page into effect.
func (s *revocations) take(page store.Page) {
	for i := range page.Additions {
		s.publish(page.Additions[i].Revocation)
	}
}

// publish puts r into effect.
func (s *revocations) publish(r store.Revocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Kind {
	case revocation.Token:
		sum := sumOf(r)
		held, known := s.tokens[sum]
		if !known {
			s.perClient[r.Client]++
			held.client = r.Client
		}
		s.tokens[sum] = revokedToken{max(held.until, r.Until.Unix()), held.client}
	case revocation.Application:
		s.applications[r.Subject] = max(s.applications[r.Subject], r.IssuedBy.Unix())
	case revocation.Partner:
		s.partners[r.Subject] = max(s.partners[r.Subject], r.IssuedBy.Unix())
	case revocation.Certificate:
		if t, err := access.ParseThumbprint(r.Subject); err == nil {
			s.certificates[t] = true
		}
	case revocation.ForeignToken, revocation.ForeignSubject: // nothing stores them
	}
}

// sumOf returns the SHA-256 of the jti of r, the revocation of a token.
func sumOf(r store.Revocation) (sum [sha256.Size]byte) {
	copy(sum[:], r.Subject)
	return sum
}

// sweep removes revocations of tokens whose retention has ended. A revocation of an application or
// partner is one number, and is never removed.
func (s *revocations) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.tokens, func(_ [sha256.Size]byte, r revokedToken) bool { return r.until < now.Unix() })
	clear(s.perClient)
	for _, r := range s.tokens {
		s.perClient[r.client]++
	}
}

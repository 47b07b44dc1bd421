package introspect

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/facts"
)

// An Owner returns the partner in whose share of the memory an answer is remembered, or ""
// for an answer that is not to be: the token that it is about is refused, whatever the
// server says. It may be called after the request that it was made for has ended.
type Owner func(answer *access.Unchecked) string

// memory is what is remembered of a server's answers. The number of inactive tokens, of
// which a client can make up as many as it likes, is bounded apart from that of the others.
type responseCache struct {
	settings  config.IntrospectionCache
	active    *cache.Cache[*entry]
	inactive  *cache.Cache[*deniedEntry]
	replacing *sync.Mutex // held while a reply takes the place of another
}

// An entry is what was said of an active token.
type entry struct {
	token        access.Unchecked
	owner        string
	requestedAt  time.Time
	expires      time.Time // from then on, the server is asked again
	refreshAfter time.Time // from then on, it is asked in the background if many want to know
	hits         atomic.Int32
}

// A refusal is that a token was inactive, or no access token.
type deniedEntry struct {
	denial      *access.Denial
	requestedAt time.Time
	expires     time.Time
}

// What entry and refusal take beside what the token says. A denial is an error that wraps
// another and the text of either, which quotes 256 bytes at most.
const (
	entryBytes       = int(unsafe.Sizeof(entry{}) - unsafe.Sizeof(access.Unchecked{}))
	deniedEntryBytes = int(unsafe.Sizeof(deniedEntry{})+unsafe.Sizeof(access.Denial{})) + 2*(64+256)
)

func newResponseCache(settings config.IntrospectionCache, pool *cache.Pool, metrics *Metrics) responseCache {
	return responseCache{
		settings:  settings,
		active:    cache.New[*entry](pool, settings.Entries, metrics.evictions),
		inactive:  cache.New[*deniedEntry](pool, settings.InactiveEntries, metrics.evictions),
		replacing: new(sync.Mutex),
	}
}

// share makes m have what other has, from now on too. How long that serves beyond its end
// is m's own setting.
func (m *responseCache) shareWith(other *responseCache) {
	m.active, m.inactive, m.replacing = other.active, other.inactive, other.replacing
}

// clear forgets everything, unless m shares it with other.
func (m *responseCache) clearUnshared(other *responseCache) {
	if m.active != other.active {
		m.active.Clear()
	}
	if m.inactive != other.inactive {
		m.inactive.Clear()
	}
}

// fresh returns what was said of a token not too long ago, nil for nothing.
func (m *responseCache) fresh(sum facts.Sum, now time.Time) *entry {
	e, ok := m.active.Get(sum)
	if !ok || !now.Before(e.expires) {
		return nil
	}
	return e
}

// stale returns what was said of a token, also somewhat longer ago where that is
// allowed while the server cannot be asked.
func (m *responseCache) stale(sum facts.Sum, now time.Time) *entry {
	e, ok := m.active.Get(sum)
	if !ok || !now.Before(e.expires.Add(m.settings.StaleOnError)) {
		return nil
	}
	return e
}

// refusal returns why a token was turned down a moment ago, nil when it was not.
func (m *responseCache) recentDenial(sum facts.Sum, now time.Time) error {
	r, ok := m.inactive.Get(sum)
	if !ok || !now.Before(r.expires) {
		return nil
	}
	return r.denial
}

// add remembers the reply to a question that was asked at that time: of an active token
// for as long as configured and no longer than to its exp (RFC 7662 section 4), in the
// share of owner, and not at all where that is "". The time counts from the question: what
// the server revoked while it answered must not live longer for it. For the same reason a
// reply never takes the place of one to a later question. Up to a tenth is taken off by
// chance, so that what was asked at once need not be asked again at once.
func (m *responseCache) add(sum facts.Sum, r *response, asked time.Time, owner string) {
	m.replacing.Lock()
	defer m.replacing.Unlock()
	if m.superseded(sum, asked) {
		return
	}
	if r.denial != nil {
		m.active.Remove(sum)
		if age := jitter(m.settings.InactiveMaxAge); age > 0 {
			until := asked.Add(age)
			m.inactive.Add(sum, &deniedEntry{r.denial, asked, until}, owner, deniedEntryBytes, until)
		}
		return
	}
	m.inactive.Remove(sum)
	age := jitter(m.settings.MaxAge)
	e := &entry{token: r.token, owner: owner, requestedAt: asked, expires: asked.Add(age), refreshAfter: asked.Add(age - age/5)}
	if !r.token.Expires.After(e.expires) {
		e.expires, e.refreshAfter = r.token.Expires, r.token.Expires // asking earlier would tell nothing new
	}
	if owner == "" || !asked.Before(e.expires) {
		m.active.Remove(sum) // an earlier answer is no longer true
		return
	}
	m.active.Add(sum, e, owner, entryBytes+facts.Bytes(&e.token), e.expires.Add(m.settings.StaleOnError))
}

// superseded reports whether something is remembered of a later question.
func (m *responseCache) superseded(sum facts.Sum, asked time.Time) bool {
	if e, ok := m.active.Get(sum); ok && e.requestedAt.After(asked) {
		return true
	}
	r, ok := m.inactive.Get(sum)
	return ok && r.requestedAt.After(asked)
}

func jitter(age time.Duration) time.Duration {
	return age - rand.N(age/10+1) //nolint:gosec // nobody gains by guessing when an answer ends
}

// hot is how many hits make an entry one that many want to know.
const refreshAheadHits = 3

// due reports, once in an entry's life, that it has come to the last fifth of it and is
// hot. It counts a hit.
func (e *entry) shouldRefresh(now time.Time) bool {
	n := e.hits.Load()
	switch {
	case n < refreshAheadHits:
		e.hits.Add(1)
		return false
	case n == refreshAheadHits && !now.Before(e.refreshAfter) && now.Before(e.expires):
		return e.hits.CompareAndSwap(refreshAheadHits, refreshAheadHits+1)
	}
	return false
}

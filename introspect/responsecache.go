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

// An Owner returns the partner for whom a response is cached. It returns "" if the gate refuses the
// token; then the response is not cached. An Owner may be called after its request has ended.
type Owner func(answer *access.Unchecked) string

// A responseCache stores a server's responses. Active and inactive tokens have separate bounds,
// because clients can make up any number of inactive tokens.
type responseCache struct {
	settings  config.IntrospectionCache
	active    *cache.Cache[*entry]
	inactive  *cache.Cache[*deniedEntry]
	replacing *sync.Mutex   // held while a response replaces another response
	clients   *atomic.Int32 // the number of clients that use the entries
}

// An entry is a response about an active token.
type entry struct {
	Response
	owner        string
	expires      time.Time // after this time, the token is introspected again
	refreshAfter time.Time // after this time a token in frequent use is refreshed in the background
	hits         atomic.Int32
}

// A deniedEntry is a response about a token that is inactive, or is not an access token.
type deniedEntry struct {
	denial      *access.Denial
	requestedAt time.Time
	expires     time.Time
}

// The sizes of entry and deniedEntry without the claims. The Err of a Denial wraps another error, so
// there are two errors; the text of each quotes at most 256 bytes.
const (
	entryBytes       = int(unsafe.Sizeof(entry{}) - unsafe.Sizeof(access.Unchecked{}))
	deniedEntryBytes = int(unsafe.Sizeof(deniedEntry{})+unsafe.Sizeof(access.Denial{})) + 2*(64+256)
)

func newResponseCache(settings config.IntrospectionCache, pool *cache.Pool, metrics *Metrics) responseCache {
	clients := new(atomic.Int32)
	clients.Store(1)
	return responseCache{
		settings:  settings,
		active:    cache.New[*entry](pool, settings.Entries, metrics.evictions),
		inactive:  cache.New[*deniedEntry](pool, settings.InactiveEntries, metrics.evictions),
		replacing: new(sync.Mutex),
		clients:   clients,
	}
}

// shareWith makes c use the entries of other from now on. c keeps its own stale_on_error.
func (c *responseCache) shareWith(other *responseCache) {
	c.active, c.inactive, c.replacing, c.clients = other.active, other.inactive, other.replacing, other.clients
	c.clients.Add(1)
}

// release gives up the use of the entries. The last client that gives them up removes all entries.
func (c *responseCache) release() {
	if c.clients.Add(-1) == 0 {
		c.active.Clear()
		c.inactive.Clear()
	}
}

// fresh returns the entry of an active token if the entry has not expired, and nil otherwise.
func (c *responseCache) fresh(sum facts.Sum, now time.Time) *entry {
	e, ok := c.active.Get(sum)
	if !ok || !now.Before(e.expires) {
		return nil
	}
	return e
}

// stale returns the entry of an active token if the entry is fresh, or has expired less than
// stale_on_error ago, and nil otherwise. The result is used while the server is unavailable.
func (c *responseCache) stale(sum facts.Sum, now time.Time) *entry {
	e, ok := c.active.Get(sum)
	if !ok || !now.Before(e.expires.Add(c.settings.StaleOnError)) {
		return nil
	}
	return e
}

// recentDenial returns why the server recently refused a token, or nil if the server did not refuse
// it.
func (c *responseCache) recentDenial(sum facts.Sum, now time.Time) error {
	r, ok := c.inactive.Get(sum)
	if !ok || !now.Before(r.expires) {
		return nil
	}
	return r.denial
}

// add stores the response r. A response about an active token is cached as long as configured, at
// most until the token's exp (RFC 7662 section 4), and not at all if owner is "". The time in the cache begins at r.RequestedAt, so that a revocation takes
// effect in time even if it happens during the request. For the same reason a response never replaces
// the response to a later request. The time in the cache is shortened at random by up to a tenth, so
// that tokens that were cached at the same moment do not expire together.
func (c *responseCache) add(sum facts.Sum, r *response, owner string) {
	c.replacing.Lock()
	defer c.replacing.Unlock()
	if c.superseded(sum, r.RequestedAt) {
		return
	}
	if r.denial != nil {
		c.active.Remove(sum)
		if age := jitter(c.settings.InactiveMaxAge); age > 0 {
			until := r.RequestedAt.Add(age)
			c.inactive.Add(sum, &deniedEntry{r.denial, r.RequestedAt, until}, owner, deniedEntryBytes, until)
		}
		return
	}
	c.inactive.Remove(sum)
	age := jitter(c.settings.MaxAge)
	e := &entry{Response: r.Response, owner: owner, expires: r.RequestedAt.Add(age), refreshAfter: r.RequestedAt.Add(age - age/5)}
	if !r.Claims.Expires.After(e.expires) {
		e.expires, e.refreshAfter = r.Claims.Expires, r.Claims.Expires // an earlier refresh would get the same exp
	}
	if owner == "" || !r.RequestedAt.Before(e.expires) {
		c.active.Remove(sum) // because the previous response is outdated
		return
	}
	c.active.Add(sum, e, owner, entryBytes+facts.Bytes(&e.Claims), e.expires.Add(c.settings.StaleOnError))
}

// superseded reports whether the cache has a response to a later request.
func (c *responseCache) superseded(sum facts.Sum, requestedAt time.Time) bool {
	if e, ok := c.active.Get(sum); ok && e.RequestedAt.After(requestedAt) {
		return true
	}
	r, ok := c.inactive.Get(sum)
	return ok && r.requestedAt.After(requestedAt)
}

func jitter(age time.Duration) time.Duration {
	return age - rand.N(age/10+1) //nolint:gosec // guessing when an entry expires gains nothing
}

// refreshAheadHits is the number of hits that makes an entry one in frequent use.
const refreshAheadHits = 3

// shouldRefresh counts a hit. It returns true once in an entry's life: when the entry is in the last
// fifth of its life and in frequent use.
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

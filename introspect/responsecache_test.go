package introspect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/facts"
)

// T-ADD-04: the response about an active token that the gate refuses is not cached. Such tokens
// count against the certificate as inactive tokens do.
func TestRefusedTokensAreNotCached(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	c := a.client()
	c.now = func() time.Time { return time.Unix(2e9-3600, 0) } // the clock stands still
	a.responds(active(M{"exp": 2e9}))
	nobody := func(*access.Unchecked) string { return "" }
	for i := range unknownTokenBurst {
		raw := fmt.Sprint("bound to other ", i)
		if _, err := c.Introspect(t.Context(), queryOf(raw), certificateOf(2, 2), nobody, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.cache.active.Len() + c.cache.inactive.Len(); n != 0 {
		t.Errorf("%d responses are cached, want 0", n)
	}
	calls := a.calls.Load()
	_, err := c.Introspect(t.Context(), queryOf("one more"), certificateOf(2, 2), nobody, nil)
	if access.ReasonOf(err) != access.RateLimited || a.calls.Load() != calls {
		t.Errorf("Introspect = %v after %d requests, want rate_limited", err, a.calls.Load())
	}
	expect(t, c, "of another certificate", access.Granted)
	if n := c.cache.active.Len(); n != 1 {
		t.Errorf("%d responses are cached, want 1", n)
	}
	// A refusal removes the cached entry of the token.
	sum := facts.SumOf("of another certificate")
	says := response{Response: Response{Claims: access.Unchecked{Expires: c.now().Add(time.Hour)}}}
	c.cache.add(sum, says.at(c.now().Add(time.Second)), "")
	if n := c.cache.active.Len(); n != 0 {
		t.Errorf("%d responses are cached, want 0", n)
	}
}

// T-ADD-04: large responses and responses about inactive tokens stay within the shared memory.
func TestCacheMemory(t *testing.T) {
	a := newAuthority(t)
	pool := cache.NewPool(1 << 20)
	c := a.client()
	c.cache = newResponseCache(c.settings.Cache, pool, c.allMetrics)
	c.settings.Cache.Entries = 1e6
	for i := range 300 {
		a.responds(active(M{"sub": strings.Repeat("x", 60<<10)}))
		expect(t, c, fmt.Sprint("large ", i), access.Granted)
	}
	if n, bytes := c.cache.active.Len(), pool.Bytes(); n != 0 || bytes != 0 {
		t.Errorf("%d large responses are cached in %d bytes, want 0 and 0", n, bytes)
	}
	for i := range 3000 {
		says := response{Response: Response{Claims: access.Unchecked{Subject: strings.Repeat("x", 4000), Expires: c.now().Add(time.Hour)}}}
		c.cache.add(facts.SumOf(fmt.Sprint("active ", i)), says.at(c.now()), "northwind")
		no := response{denial: &access.Denial{Reason: access.Inactive}}
		c.cache.add(facts.SumOf(fmt.Sprint("inactive ", i)), no.at(c.now()), ownerOfInactive(certificateOf(2, 2)))
	}
	if bytes := pool.Bytes(); bytes > 1<<20 || bytes < 1<<18 {
		t.Errorf("Bytes() = %d, want 1/4 to 1 MiB", bytes)
	}
}

package validate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// hits fails the test unless v's cache has answered want times.
func hits(t *testing.T, v *Validator, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(v.metrics.hits); got != want {
		t.Errorf("%v hits, want %v", got, want)
	}
}

// T-INT-03 by analogy: the binding is checked on a hit, in either direction, and a token that was
// refused first is granted with the right certificate.
func TestHitChecksBinding(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	raw := key.Token(bound())
	expect(t, v, raw, partner, access.Granted)
	expect(t, v, raw, other, access.BoundToOther)
	expect(t, v, raw, partner, access.Granted)
	hits(t, v, 2)

	raw = key.Token(bound())
	expect(t, v, raw, other, access.BoundToOther)
	expect(t, v, raw, partner, access.Granted)
	hits(t, v, 2)
}

// T-INT-04: a cache hit checks exp, and removes an expired token.
func TestHitChecksExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := testpki.NewSigner("ES256", "k1")
		v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
		raw := key.Token(bound(M{"exp": time.Now().Add(time.Minute).Unix()}))
		expect(t, v, raw, partner, access.Granted)
		time.Sleep(90*time.Second - 1) // exp and 30 s of leeway
		expect(t, v, raw, partner, access.Granted)
		time.Sleep(time.Nanosecond)
		expect(t, v, raw, partner, access.Expired)
		hits(t, v, 2)
		if n := v.cached(); n != 0 {
			t.Errorf("%v entries are left, want 0", n)
		}
		expect(t, v, raw, partner, access.Expired)
		hits(t, v, 2)
		if n := v.cached(); n != 0 {
			t.Errorf("%v entries after an expired token, want 0", n)
		}
	})
}

// A token that is not valid yet is not cached, and becomes valid later.
func TestNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := testpki.NewSigner("ES256", "k1")
		v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
		raw := key.Token(bound(M{"nbf": time.Now().Add(time.Minute).Unix()}))
		expect(t, v, raw, partner, access.NotYetValid)
		time.Sleep(30*time.Second - 1)
		expect(t, v, raw, partner, access.NotYetValid)
		if n := v.cached(); n != 0 {
			t.Errorf("%v entries, want none", n)
		}
		time.Sleep(time.Nanosecond)
		expect(t, v, raw, partner, access.Granted)
		expect(t, v, raw, partner, access.Granted)
		hits(t, v, 1)
	})
}

// While it is unknown whether a token is revoked, the token is refused as undecided, new or cached. A
// known revocation remains the reason of the refusal.
func TestRevocationUnknown(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	options := localKeys(key)
	var unknown atomic.Bool
	options.Revoked = func(u *access.Unchecked) (RevocationStatus, error) {
		switch {
		case u.TokenID == "revoked":
			return Revoked, nil
		case unknown.Load():
			return RevocationUnknown, errors.New("the database is away")
		}
		return NotRevoked, nil
	}
	v := newValidator(t, options, gatetest.AuthorizationServer())
	cached := key.Token(bound(M{"jti": "cached"}))
	expect(t, v, cached, partner, access.Granted)
	unknown.Store(true)
	expect(t, v, cached, partner, access.RevocationsStale)
	expect(t, v, key.Token(bound(M{"jti": "new"})), partner, access.RevocationsStale)
	expect(t, v, key.Token(bound(M{"jti": "revoked"})), partner, access.Revoked)
	unknown.Store(false)
	expect(t, v, cached, partner, access.Granted)
}

// T-INT-12 by analogy: a revocation takes effect with the next request.
func TestHitChecksRevocation(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	options := localKeys(key)
	var revoked atomic.Pointer[string]
	options.Revoked = revokedIf(func(u *access.Unchecked) bool {
		id := revoked.Load()
		return id != nil && u.TokenID == *id
	})
	v := newValidator(t, options, gatetest.AuthorizationServer())
	id := "token-7"
	raw := key.Token(bound(M{"jti": id}))
	expect(t, v, raw, partner, access.Granted)
	revoked.Store(&id)
	expect(t, v, raw, partner, access.Revoked)
	hits(t, v, 1)
	expect(t, v, key.Token(bound(M{"jti": id})), partner, access.Revoked)
	expect(t, v, key.Token(bound()), partner, access.Granted)
}

// The audience is checked on a hit: the cache holds claims and no verdicts.
func TestHitChecksAudience(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	var pool reuse.Pool
	options := localKeys(key)
	options.Metrics, options.Lease = NewMetrics(nil), pool.Lease()
	v := newValidator(t, options, gatetest.AuthorizationServer())
	raw := key.Token(bound())
	expect(t, v, raw, partner, access.Granted)
	options.Lease = pool.Lease()
	v = newValidator(t, options, gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Audiences = []string{"https://other.example"} }))
	expect(t, v, raw, partner, access.WrongAudience)
	hits(t, v, 1)
}

// T-ADD-04: claims are cached only for a granted token, and only for the partner that the
// certificate is registered for.
func TestRefusedTokensTakeNoMemory(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	options := localKeys(key)
	options.Memory, options.Lease = cache.NewPool(1<<20), new(reuse.Pool).Lease()
	options.Revoked = revokedIf(func(u *access.Unchecked) bool { return u.TokenID == "revoked" })
	options.Partner = func(_, clientID string, _ *access.Certificate) string {
		return map[string]string{client: "northwind"}[clientID]
	}
	v := newValidator(t, options, gatetest.AuthorizationServer())
	for name, c := range map[string]struct {
		claims M
		want   access.Reason
	}{
		"bound to other":    {M{"cnf": M{"x5t#S256": other.Thumbprint()}}, access.BoundToOther},
		"not bound":         {M{"cnf": nil}, access.NotBound},
		"malformed binding": {M{"cnf": M{}}, access.MalformedBinding},
		"for others":        {M{"aud": "https://other.example"}, access.WrongAudience},
		"revoked":           {M{"jti": "revoked"}, access.Revoked},
		"of no partner":     {M{"client_id": "nobody"}, access.Granted}, // package policy refuses it
	} {
		claims := bound(c.claims)
		if name == "not bound" {
			delete(claims, "cnf")
		}
		expect(t, v, key.Token(claims), partner, c.want)
		if n, bytes := v.cached(), options.Memory.Bytes(); n != 0 || bytes != 0 {
			t.Errorf("%s: %v entries of %d bytes, want none", name, n, bytes)
		}
	}
	expect(t, v, key.Token(bound()), partner, access.Granted)
	if n, bytes := v.cached(), options.Memory.Bytes(); n != 1 || bytes < 500 || bytes > 2000 {
		t.Errorf("%v entries of %d bytes after a grant, want 1", n, bytes)
	}
	options.Lease.Release()
	if bytes := options.Memory.Bytes(); bytes != 0 {
		t.Errorf("Bytes() = %d after the release, want 0", bytes)
	}
}

// T-ADD-04: the memory for tokens is bounded, for tokens of any size.
func TestLargeTokens(t *testing.T) {
	key := testpki.NewSigner("EdDSA", "k1")
	options := localKeys(key)
	options.Memory = cache.NewPool(1 << 20)
	v := newValidator(t, options, gatetest.AuthorizationServer())
	small := key.Token(bound())
	expect(t, v, small, partner, access.Granted)
	v.partner = func(string, string, *access.Certificate) string { return "attacker" }
	for i := range 2000 {
		padding := strings.Repeat(fmt.Sprintf("scope-%d ", i), 300*(i%3)+1) // up to 7 KB
		expect(t, v, key.Token(bound(M{"scope": padding})), partner, access.Granted)
		if bytes := options.Memory.Bytes(); bytes > 1<<19+2000 { // the attacker's half and the small token
			t.Fatalf("Bytes() = %d after %d tokens, want at most half the pool", bytes, i)
		}
	}
	hits(t, v, 0)
	expect(t, v, small, partner, access.Granted)
	hits(t, v, 1) // the other partner's token is still cached
}

// T-JWT-06: claims that a key verified are removed when the key leaves the key set. T-JWKS-08:
// claims that a remaining key verified stay.
func TestHitNeedsTheKey(t *testing.T) {
	old, next := testpki.NewSigner("ES256", "old"), testpki.NewSigner("ES256", "new")
	path, fromFile := gatetest.KeyFile(t, testpki.KeySet(old, next))
	metrics := NewMetrics(nil)
	var pool reuse.Pool
	v := newValidator(t, Options{Metrics: metrics, Lease: pool.Lease()}, gatetest.AuthorizationServer(fromFile))
	before, after := old.Token(bound()), next.Token(bound())
	for _, raw := range []string{before, after} {
		expect(t, v, raw, partner, access.Granted)
	}
	reread := func(document []byte) {
		t.Helper()
		gatetest.WriteFile(t, path, document)
		v = newValidator(t, Options{Metrics: metrics, Lease: pool.Lease()}, gatetest.AuthorizationServer(fromFile))
	}
	reread(testpki.KeySet(next))
	expect(t, v, after, partner, access.Granted)
	hits(t, v, 1)
	expect(t, v, before, partner, access.UnknownKey)
	hits(t, v, 1)
	if n := v.cached(); n != 1 {
		t.Errorf("%v entries, want 1", n)
	}

	// A new key with the same kid is another key, and so is a key whose algorithm no longer fits
	// the token.
	reread(testpki.KeySet(testpki.NewSigner("ES256", "new")))
	expect(t, v, after, partner, access.BadSignature)
	reread(testpki.KeySet(next))
	expect(t, v, after, partner, access.Granted)
	reread(gatetest.JSON(M{"keys": []M{next.JWK(M{"kid": "renamed"})}}))
	expect(t, v, after, partner, access.UnknownKey)
}

// Only verified tokens are cached.
func TestCacheTakesVerifiedTokensOnly(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	v := newValidator(t, localKeys(key), gatetest.AuthorizationServer())
	expect(t, v, testpki.NewSigner("ES256", "k1").Token(bound()), partner, access.BadSignature)
	expect(t, v, key.Token(bound(M{"exp": "x"})), partner, access.MalformedToken)
	expect(t, v, key.Token(bound(), M{"typ": "JWT"}), partner, access.WrongType)
	expect(t, v, key.Token(bound(M{"iss": "x"})), partner, access.UnknownIssuer)
	if n := v.cached(); n != 0 {
		t.Errorf("%v entries, want none", n)
	}
}

// entries: 0 disables the cache, and the bound holds.
func TestCacheBound(t *testing.T) {
	key := testpki.NewSigner("EdDSA", "k1")
	for _, entries := range []int{0, 1, 5, 16, 40} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			v := newValidator(t, localKeys(key), gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Cache.Entries = entries }))
			for range 200 {
				expect(t, v, key.Token(bound()), partner, access.Granted)
			}
			last := key.Token(bound())
			for range 2 {
				expect(t, v, last, partner, access.Granted)
			}
			hits(t, v, min(1, float64(entries)))
			got := int(v.cached())
			if got > entries || got < entries-15 || (entries > 0) != (got > 0) {
				t.Errorf("%d entries, want at most %d", got, entries)
			}
			if evicted := testutil.ToFloat64(v.metrics.evictions); entries > 0 && int(evicted) != 201-got {
				t.Errorf("%v evictions of 201 tokens and %d entries, want 201 together", evicted, got)
			}
		})
	}
}

// T-INT-02 by analogy: each server has its own cache, so that the tokens of one server evict no
// tokens of another.
func TestCachePerServer(t *testing.T) {
	one, two := testpki.NewSigner("EdDSA", "k"), testpki.NewSigner("EdDSA", "k")
	const second = "https://second.example"
	v := newValidator(t, Options{Local: map[config.Identifier]LocalIssuer{
		issuer: localKeySet(testpki.KeySet(one)), second: localKeySet(testpki.KeySet(two)),
	}}, gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Cache.Entries = 4 }),
		gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Name, s.Issuer = "second", second }))
	kept := two.Token(bound(M{"iss": second}))
	expect(t, v, kept, partner, access.Granted)
	for range 100 {
		expect(t, v, one.Token(bound()), partner, access.Granted)
	}
	expect(t, v, kept, partner, access.Granted)
	hits(t, v, 1)
	claims, err := v.Validate(context.Background(), Credentials{Token: kept}, certificate(partner))
	if err != nil || claims.Server != "second" || claims.Issuer != second {
		t.Errorf("Validate = %+v, %v; want the server's claims", claims, err)
	}
}

// Many goroutines use few tokens and a small cache under the race detector.
func TestConcurrentUse(t *testing.T) {
	key := testpki.NewSigner("EdDSA", "k1")
	document := testpki.KeySet(key)
	var version atomic.Uint64
	read := LocalIssuer{KeySet: func() ([]byte, uint64) { return document, version.Load() }}
	v := newValidator(t, Options{Local: map[config.Identifier]LocalIssuer{issuer: read}}, gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Cache.Entries = 8 }))
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = key.Token(bound())
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 200 {
				expect(t, v, tokens[i%len(tokens)], partner, access.Granted)
				expect(t, v, tokens[i%len(tokens)], other, access.BoundToOther)
			}
		})
	}
	for range 20 {
		version.Add(1)
		time.Sleep(time.Millisecond)
	}
	group.Wait()
}

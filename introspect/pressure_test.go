package introspect

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sony/gobreaker/v2"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// respondsAfter sets the response, and delays it by d.
func (a *authorizationServer) respondsAfter(d time.Duration, response M) {
	text := gatetest.JSON(response)
	a.serve(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(d):
			reply200(w, "application/json", text)
		case <-r.Context().Done():
		}
	})
}

// flood sends n unknown tokens at once with cert, until the test ends.
func flood(t *testing.T, c *Client, n int, cert func(i int) *access.Certificate) {
	t.Helper()
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for i := range n {
		raw := fmt.Sprint("made up ", i)
		group.Go(func() { _, _ = c.Introspect(ctx, queryOf(raw), cert(i), ownedByNorthwind, nil) })
	}
	t.Cleanup(func() {
		cancel()
		c.CancelRequests()
		group.Wait()
	})
	gatetest.Eventually(t, "under way", func() bool { return c.queue.permitsInUse() >= min(n, cap(c.queue.all.permits)/4) })
}

func (q *fairQueue) permitsInUse() int { return len(q.all.permits) }

func one(holder int) func(int) *access.Certificate {
	return func(int) *access.Certificate { return certificateOf(holder, byte(holder)) }
}

// More tokens than the permits of one certificate can serve in time do not open the breaker,
// because waiting for a permit is not a failure of the server.
func TestBurstOpensNoBreaker(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.respondsAfter(450*time.Millisecond, M{"active": false})
	c := a.client(func(s *config.AuthorizationServer) { s.Introspection.Timeout = 1500 * time.Millisecond })
	var group sync.WaitGroup
	for i := range 200 { // 16 at a time: three rounds are in time, the fourth is late
		raw := fmt.Sprint("made up ", i)
		group.Go(func() {
			_, _ = c.Introspect(t.Context(), queryOf(raw), certificateOf(2, 2), ownedByNorthwind, nil)
		})
	}
	group.Wait()
	if c.breaker.State() != gobreaker.StateClosed {
		t.Error("the breaker is open, want closed")
	}
	wantCounter(t, "out of time", c.metrics.timedOut, 0)
	if testutil.ToFloat64(c.metrics.noPermit) == 0 {
		t.Error("every request got a permit, want some without")
	}
	expect(t, c, "honest", access.Inactive)
}

// Requests whose clients time out are not failures of the server, also without shared requests.
func TestClientTimeouts(t *testing.T) {
	a := newAuthority(t)
	a.respondsAfter(50*time.Millisecond, M{"active": false})
	c := a.client(caching(func(s *config.IntrospectionCache) { s.MaxAge = 0 }))
	for i := range 2 * breakerFailures {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		raw := fmt.Sprint("made up ", i)
		_, err := c.Introspect(ctx, queryOf(raw), certificateOf(2, 2), ownedByNorthwind, nil)
		cancel()
		if access.ReasonOf(err) != access.IssuerUnavailable {
			t.Fatal(err)
		}
	}
	expect(t, c, "honest", access.Inactive)
}

// stale_on_error: a client cannot keep its revoked token alive by using up all permits, nor by
// reaching the limit of unknown tokens.
func TestClientForcesNoStaleEntry(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	c := a.client(caching(func(s *config.IntrospectionCache) { s.StaleOnError, s.InactiveMaxAge = time.Hour, 0 }),
		func(s *config.AuthorizationServer) { s.Introspection.Timeout = time.Minute })
	expect(t, c, "revoked", access.Granted)
	a.advance(30 * time.Minute)
	a.respondsAfter(time.Minute, M{"active": false})
	flood(t, c, 400, one(1))
	gatetest.Eventually(t, "all places taken", func() bool { return c.queue.userCount() == 16*maxUsersPerPermit })
	expect(t, c, "revoked", access.IssuerUnavailable)
	wantCounter(t, "stale", c.metrics.stale, 0)

	c = a.client(caching(func(s *config.IntrospectionCache) { s.StaleOnError, s.InactiveMaxAge = time.Hour, 0 }))
	a.responds(active(M{"exp": time.Now().Add(24 * time.Hour).Unix()}))
	expect(t, c, "revoked", access.Granted)
	a.advance(30 * time.Minute)
	later := c.now()
	c.now = func() time.Time { return later }
	a.responds(M{"active": false})
	for i := range unknownTokenBurst {
		expect(t, c, fmt.Sprint("made up ", i), access.Inactive)
	}
	expect(t, c, "revoked", access.RateLimited)
	wantCounter(t, "stale", c.metrics.stale, 0)
}

// Requests that clients cancel at once leave at most as many waiting calls as the queue allows.
func TestQueueIsBounded(t *testing.T) {
	a := newAuthority(t)
	a.respondsAfter(time.Minute, M{"active": false})
	c := a.client(func(s *config.AuthorizationServer) { s.Introspection.Timeout = time.Minute })
	before := runtime.NumGoroutine()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 20_000 {
		raw := fmt.Sprint("made up ", i)
		if _, err := c.Introspect(gone, queryOf(raw), certificateOf(2, 2), ownedByNorthwind, nil); access.ReasonOf(err) != access.IssuerUnavailable {
			t.Fatal(err)
		}
	}
	// 16 permits with 16 places each, and the goroutines of 16 connections at both ends.
	most := 16*maxUsersPerPermit + 16*10
	gatetest.Eventually(t, "few", func() bool { return runtime.NumGoroutine()-before <= most })
	t.Logf("%d goroutines are left of 20,000 requests", runtime.NumGoroutine()-before)
	if n := c.queue.userCount(); n != 16*maxUsersPerPermit {
		t.Errorf("%d users in the queue, want %d", n, 16*maxUsersPerPermit)
	}
}

// An authority can issue any number of certificates, and all of them get half of the permits.
// Certificates without an authority share one authority's part.
func TestManyCertificates(t *testing.T) {
	for name, authority := range map[string][]byte{"of one authority": {9, 8}, "of none": nil} {
		a := newAuthority(t)
		a.responds(M{"active": false})
		slow := gatetest.JSON(M{"active": false})
		a.serve(func(w http.ResponseWriter, r *http.Request) {
			if r.PostForm.Get("token") != "honest" {
				select {
				case <-time.After(time.Minute):
				case <-r.Context().Done():
				}
			}
			reply200(w, "application/json", slow)
		})
		c := a.client(func(s *config.AuthorizationServer) { s.Introspection.Timeout = time.Minute })
		flood(t, c, 2000, func(i int) *access.Certificate { return certificateOf(10+i%120, authority...) })
		gatetest.Eventually(t, name+": half of the turns taken", func() bool { return c.queue.permitsInUse() == 32 })
		expect(t, c, "honest", access.Inactive)
		if n := c.queue.permitsInUse(); n != 32 {
			t.Errorf("%s: %d of 64 permits in use, want at most half", name, n)
		}
	}
}

// A request of another certificate about the same token delays no request of the owner.
func TestRequestsOfOtherCertificates(t *testing.T) {
	a := newAuthority(t)
	body := gatetest.JSON(active())
	a.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("token") != "honest" {
			<-r.Context().Done()
		}
		reply200(w, "application/json", body)
	})
	c := a.client(func(s *config.AuthorizationServer) { s.Introspection.Timeout = time.Minute })
	flood(t, c, 100, one(2))
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	group.Go(func() {
		_, _ = c.Introspect(ctx, queryOf("honest"), certificateOf(2, 2), ownedByNorthwind, nil)
	})
	gatetest.Eventually(t, "waiting", func() bool { return c.queue.userCount() == 101 })
	if _, reason := introspectWith(t, c, "honest", certificateOf(3, 3)); reason != access.Granted {
		t.Errorf("the owner's token: %s, want granted", reason)
	}
	cancel()
	group.Wait()
}

func (q *fairQueue) userCount() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.all.users
}

// Tokens of a certificate with too many unknown tokens are not introspected for a while, nor at
// last those of its authority. Other authorities are not affected.
func TestUnknownTokenLimiter(t *testing.T) {
	a := newAuthority(t)
	c := a.client()
	begin := time.Now()
	c.now = func() time.Time { return begin.Add(time.Duration(a.now.Load())) } // the clock stands still
	made := 0
	show := func(cert *access.Certificate) access.Reason {
		made++
		_, reason := introspectWith(t, c, fmt.Sprint("made up ", made), cert)
		return reason
	}
	for range unknownTokenBurst {
		if got := show(certificateOf(2, 2)); got != access.Inactive {
			t.Fatalf("token %d: %s, want inactive", made, got)
		}
	}
	if calls := a.calls.Load(); calls != unknownTokenBurst || show(certificateOf(2, 2)) != access.RateLimited || a.calls.Load() != calls {
		t.Errorf("%d requests, then %d, want no more", calls, a.calls.Load())
	}
	wantCounter(t, "limited", c.metrics.limited, 1)
	for holder := 10; holder < 10+authorityFactor-1; holder++ {
		for range unknownTokenBurst {
			if got := show(certificateOf(holder, 2)); got != access.Inactive {
				t.Fatalf("token %d of certificate %d: %s", made, holder, got)
			}
		}
	}
	if got := show(certificateOf(99, 2)); got != access.RateLimited {
		t.Errorf("another certificate of the authority: %s, want rate_limited", got)
	}
	if got := show(certificateOf(99, 3)); got != access.Inactive {
		t.Errorf("certificate of another authority: %s, want inactive", got)
	}
	a.responds(active())
	if _, got := introspectWith(t, c, "good", certificateOf(2, 2)); got != access.RateLimited {
		t.Errorf("an active token at once: %s, want rate_limited", got)
	}
	a.advance(time.Second)
	for i := range 100 { // active tokens do not count
		if _, got := introspectWith(t, c, fmt.Sprint("good ", i), certificateOf(2, 2)); got != access.Granted {
			t.Fatalf("active token %d after a second: %s, want granted", i, got)
		}
	}
}

// A signed response from before the request is refused.
func TestSignedResponseBeforeRequest(t *testing.T) {
	a := newAuthority(t)
	signed := a.key.Token(M{"iss": issuer, "aud": "gate", "iat": time.Now().Unix(), "token_introspection": active()}, M{"typ": "token-introspection+jwt"})
	a.serve(func(w http.ResponseWriter, _ *http.Request) { reply200(w, jwtMediaType, []byte(signed)) })
	c := a.client(func(s *config.AuthorizationServer) { s.Introspection.Signed = true })
	expect(t, c, "one", access.Granted)
	a.advance(32 * time.Second) // the leeway is 30 s
	expect(t, c, "another", access.IssuerUnavailable)
}

// A request whose connection breaks is retried once, with a new assertion: RFC 7523 section 3
// tells servers to refuse a repeated assertion.
func TestAssertionOnce(t *testing.T) {
	a := newAuthority(t)
	var mu sync.Mutex
	seen, broken := map[string]int{}, false
	body := gatetest.JSON(active())
	a.serve(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.PostFormValue("client_assertion")]++
		if broken {
			broken = false
			panic(http.ErrAbortHandler)
		}
		reply200(w, "application/json", body)
	})
	c := a.client(func(s *config.AuthorizationServer) {
		s.Introspection.Authentication = config.IntrospectionAuthentication{Method: config.MethodPrivateKeyJWT, KeyFile: a.path("assertion-key.pem")}
	})
	expect(t, c, "one", access.Granted)
	broken = true
	expect(t, c, "two", access.Granted)
	if len(seen) != 3 {
		t.Errorf("%d assertions, want 3", len(seen))
	}
	for _, n := range seen {
		if n != 1 {
			t.Errorf("an assertion was sent %d times, want once", n)
		}
	}
}

// Status 429 does not open the breaker and extends no stale entry. It counts against the
// certificate.
func TestTooManyRequestsResponse(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	c := a.client(caching(func(s *config.IntrospectionCache) { s.StaleOnError = time.Hour }))
	expect(t, c, "revoked", access.Granted)
	a.advance(30 * time.Minute)
	later := c.now()
	c.now = func() time.Time { return later }
	a.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	expect(t, c, "revoked", access.IssuerUnavailable)
	for i := range unknownTokenBurst - 1 {
		expect(t, c, fmt.Sprint("made up ", i), access.IssuerUnavailable)
	}
	expect(t, c, "revoked", access.RateLimited)
	a.responds(active())
	if _, got := introspectWith(t, c, "honest", certificateOf(3, 3)); got != access.Granted {
		t.Errorf("token of another certificate: %s", got)
	}
}

package introspect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/gatetest"
)

func caching(edit func(*config.IntrospectionCache)) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) { edit(&s.Introspection.Cache) }
}

// wantCounter fails the test unless counter has the value want.
func wantCounter(t *testing.T, name string, counter prometheus.Counter, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(counter); got != want {
		t.Errorf("counter %s = %v, want %v", name, got, want)
	}
}

// T-INT-04, T-INT-05: an active token is introspected again after max_age, less up to a tenth,
// and no later than its exp, so that a revocation takes effect within max_age.
func TestActiveLifetime(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	c := a.client()
	expect(t, c, "opaque", access.Granted)
	a.responds(M{"active": false})
	a.advance(53 * time.Second)
	expect(t, c, "opaque", access.Granted)
	a.advance(7 * time.Second)
	expect(t, c, "opaque", access.Inactive)
	wantCounter(t, "hits", c.metrics.hits, 1)
	wantCounter(t, "misses", c.metrics.misses, 2)
	if n := a.calls.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}

	// exp is earlier than max_age.
	a.responds(active(M{"exp": time.Now().Add(time.Minute + 20*time.Second).Unix()})) // in 20 s by the gate's clock
	expect(t, c, "short", access.Granted)
	a.responds(M{"active": false})
	a.advance(18 * time.Second)
	expect(t, c, "short", access.Granted)
	a.advance(2 * time.Second)
	expect(t, c, "short", access.Inactive)

	// A response about an expired token is not cached.
	a.responds(active(M{"exp": 1}))
	calls := a.calls.Load()
	expect(t, c, "over", access.Granted) // validate refuses the token
	expect(t, c, "over", access.Granted)
	if n := a.calls.Load() - calls; n != 2 || c.cache.active.Len() != 0 {
		t.Errorf("%d requests and %d entries, want 2 and 0", n, c.cache.active.Len())
	}
}

// An inactive token is not introspected again for a few seconds, and inactive tokens evict no
// active token.
func TestInactiveLifetime(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	c := a.client(caching(func(s *config.IntrospectionCache) { s.Entries, s.InactiveEntries = 16, 16 }))
	expect(t, c, "good", access.Granted)
	a.responds(M{"active": false})
	for i := range 100 {
		expect(t, c, fmt.Sprint("made up ", i), access.Inactive)
	}
	expect(t, c, "good", access.Granted)
	calls := a.calls.Load()
	expect(t, c, "made up 99", access.Inactive)
	if a.calls.Load() != calls || c.cache.inactive.Len() > 16 {
		t.Errorf("%d requests and %d denied entries, want no request and a bounded cache", a.calls.Load()-calls, c.cache.inactive.Len())
	}
	wantCounter(t, "negative", c.metrics.negative, 1)
	a.advance(5 * time.Second)
	a.responds(active())
	expect(t, c, "made up 99", access.Granted)
}

// With max_age: 0, every call makes its own request.
func TestNoCache(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	c := a.client(caching(func(s *config.IntrospectionCache) { s.MaxAge = 0 }))
	for range 3 {
		expect(t, c, "opaque", access.Granted)
	}
	a.responds(M{"active": false})
	expect(t, c, "opaque", access.Inactive)
	if n := a.calls.Load(); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

// T-INT-06: 1,000 concurrent first uses of a token make one request, and a canceled call cancels
// no other call.
func TestOneRequestForOneToken(t *testing.T) {
	a := newAuthority(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	body := gatetest.JSON(active())
	a.serve(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		reply200(w, "application/json", body)
	})
	c := a.client(func(s *config.AuthorizationServer) { s.Introspection.Timeout = 20 * time.Second })
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := c.Introspect(ctx, queryOf("opaque"), certificateOf(1), ownedByNorthwind, nil)
		left <- err
	}()
	<-arrived
	var waiting, group sync.WaitGroup
	var granted atomic.Int64
	for range 999 {
		waiting.Add(1)
		group.Go(func() {
			waiting.Done()
			if _, err := c.Introspect(t.Context(), queryOf("opaque"), certificateOf(1), ownedByNorthwind, nil); err == nil {
				granted.Add(1)
			}
		})
	}
	waiting.Wait()
	leave() // the call that made the request
	if err := <-left; !errors.Is(err, context.Canceled) || access.ReasonOf(err) != access.IssuerUnavailable {
		t.Errorf("Introspect of the canceled call = %v, want context.Canceled", err)
	}
	close(release)
	group.Wait()
	if granted.Load() != 999 || a.calls.Load() != 1 {
		t.Errorf("%d calls granted by %d requests, want 999 by 1", granted.Load(), a.calls.Load())
	}
	wantCounter(t, "misses", c.metrics.misses, 1)
	wantCounter(t, "shared", c.metrics.shared, 999)
}

// T-INT-06: requests about different tokens are bounded, and one certificate gets at most a
// quarter of the permits.
func TestPermitsPerCertificate(t *testing.T) {
	a := newAuthority(t)
	var now, most, ofFirst atomic.Int64
	release := make(chan struct{})
	body := gatetest.JSON(active())
	a.serve(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.FormValue("token"), " of 1") {
			ofFirst.Add(1)
		}
		n := now.Add(1)
		defer now.Add(-1)
		for {
			before := most.Load()
			if n <= before || most.CompareAndSwap(before, n) {
				break
			}
		}
		<-release
		reply200(w, "application/json", body)
	})
	c := a.client(func(s *config.AuthorizationServer) {
		s.Introspection.Concurrency, s.Introspection.Timeout = 8, 20*time.Second
	})
	var group sync.WaitGroup
	introspect := func(holder int, tokens int) {
		for i := range tokens {
			group.Go(func() {
				raw := fmt.Sprintf("token %d of %d", i, holder)
				if _, err := c.Introspect(t.Context(), queryOf(raw), certificateOf(holder, byte(holder)), ownedByNorthwind, nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
	introspect(1, 30)
	gatetest.EventuallyEqual(t, "requests of one certificate", 2, ofFirst.Load)
	for holder := 2; holder < 10; holder++ {
		introspect(holder, 10)
	}
	gatetest.EventuallyEqual(t, "requests of nine certificates", 8, now.Load)
	if n := ofFirst.Load(); n != 2 {
		t.Errorf("%d of 8 permits for one certificate, want 2", n)
	}
	close(release)
	group.Wait()
	if n := most.Load(); n != 8 {
		t.Errorf("%d concurrent requests, want at most 8", n)
	}
	if n := len(c.queue.certificates) + len(c.queue.authorities) + c.queue.all.users; n != 0 {
		t.Errorf("%d buckets or users are left, want 0", n)
	}
}

// The wait for a permit ends with the timeout, which is not a failure of the server.
func TestPermitTimeout(t *testing.T) {
	a := newAuthority(t)
	release := make(chan struct{})
	a.serve(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		reply200(w, "application/json", gatetest.JSON(M{"active": false}))
	})
	c := a.client(func(s *config.AuthorizationServer) {
		s.Introspection.Concurrency, s.Introspection.Timeout = 1, 20*time.Second
	})
	var group sync.WaitGroup
	group.Go(func() { expect(t, c, "first", access.Inactive) })
	gatetest.Eventually(t, "under way", func() bool { return a.calls.Load() == 1 })
	c.settings.Timeout = 20 * time.Millisecond
	for i := range 3 * breakerFailures {
		expect(t, c, fmt.Sprint("later ", i), access.IssuerUnavailable)
	}
	close(release)
	group.Wait()
	c.settings.Timeout = 20 * time.Second
	expect(t, c, "last", access.Inactive) // the breaker is closed
	if n := a.calls.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

// A token in frequent use is introspected in the background before its entry expires, once, and
// its users do not wait.
func TestBackgroundRefresh(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	c := a.client()
	for range refreshAheadHits + 1 {
		expect(t, c, "hot", access.Granted)
	}
	expect(t, c, "cold", access.Granted)
	a.advance(50 * time.Second) // the last fifth begins after 43 to 48 s
	for range 10 {
		expect(t, c, "hot", access.Granted)
	}
	expect(t, c, "cold", access.Granted)
	gatetest.Eventually(t, "asked again", func() bool { return a.calls.Load() == 3 })
	gatetest.Eventually(t, "remembered again", func() bool { return c.cache.fresh(facts.SumOf("hot"), c.now().Add(20*time.Second)) != nil })
	a.advance(10 * time.Second)
	a.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	expect(t, c, "hot", access.Granted)
	expect(t, c, "cold", access.IssuerUnavailable)
	wantCounter(t, "early", c.metrics.early, 1)

	// A revocation takes effect with the background request.
	for range refreshAheadHits + 1 {
		expect(t, c, "hot", access.Granted)
	}
	a.responds(M{"active": false})
	a.advance(40 * time.Second)
	expect(t, c, "hot", access.Granted)
	gatetest.Eventually(t, "forgotten", func() bool { return c.cache.fresh(facts.SumOf("hot"), c.now()) == nil })
	expect(t, c, "hot", access.Inactive)
}

// stale_on_error is off by default. It has an end, and a response of the server always counts.
func TestStaleOnError(t *testing.T) {
	a := newAuthority(t)
	fail := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }
	a.responds(active())
	off, on := a.client(), a.client(caching(func(s *config.IntrospectionCache) { s.StaleOnError = 10 * time.Minute }))
	for _, c := range []*Client{off, on} {
		expect(t, c, "opaque", access.Granted)
	}
	a.serve(fail)
	a.advance(time.Minute)
	expect(t, off, "opaque", access.IssuerUnavailable)
	expect(t, on, "opaque", access.Granted)
	expect(t, on, "another", access.IssuerUnavailable)
	wantCounter(t, "stale", on.metrics.stale, 1)
	a.advance(10 * time.Minute)
	expect(t, on, "opaque", access.IssuerUnavailable)
	a.now.Store(int64(5 * time.Minute))
	expect(t, on, "opaque", access.Granted)
	// An error that concerns this token alone is not a failure of the server.
	a.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) })
	expect(t, on, "opaque", access.IssuerUnavailable)
	a.responds(M{"active": false})
	expect(t, on, "opaque", access.Inactive)
	a.serve(fail)
	a.advance(10 * time.Second) // the denial has expired too
	expect(t, on, "opaque", access.IssuerUnavailable)
}

// Failures in a row open the circuit breaker; after its timeout it allows one request. Errors
// that a token can cause do not count.
func TestBreaker(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.breakerTimeout = time.Second
	a.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) })
	c := a.client()
	for i := range 4 * breakerFailures {
		expect(t, c, fmt.Sprint("odd ", i), access.IssuerUnavailable)
	}
	if n := a.calls.Load(); n != 4*breakerFailures {
		t.Fatalf("%d requests, want %d: errors of tokens must not open the breaker", n, 4*breakerFailures)
	}
	a.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	for i := range 100 {
		expect(t, c, fmt.Sprint("unlucky ", i), access.IssuerUnavailable)
	}
	if n := a.calls.Load(); n != 5*breakerFailures {
		t.Errorf("%d requests, want %d", n, 5*breakerFailures)
	}
	wantCounter(t, "not sent", c.metrics.circuitOpen, 100-breakerFailures)
	if !c.suspended() {
		t.Error("gauge suspended = 0 with an open breaker, want 1")
	}
	a.responds(active())
	started := time.Now()
	gatetest.Eventually(t, "asked again", func() bool {
		_, reason := introspectToken(t, c, "opaque")
		return reason == access.Granted
	})
	t.Logf("recovered after %s", time.Since(started).Round(time.Millisecond))
	if c.suspended() {
		t.Error("gauge suspended = 1 with a closed breaker, want 0")
	}
}

// Requests that waited for a permit while the breaker opened are not sent.
func TestBreakerOfQueuedRequests(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.serve(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond)
		w.WriteHeader(500)
	})
	c := a.client(func(s *config.AuthorizationServer) { s.Introspection.Concurrency = 4 }) // one permit for each certificate
	var group sync.WaitGroup
	for i := range 3 * breakerFailures {
		group.Go(func() { expect(t, c, fmt.Sprint("unlucky ", i), access.IssuerUnavailable) })
	}
	group.Wait()
	n := a.calls.Load()
	if n > breakerFailures+1 { // a request may get its permit before the last failure counts
		t.Errorf("%d requests, want %d", n, breakerFailures)
	}
	wantCounter(t, "not sent", c.metrics.circuitOpen, float64(3*breakerFailures-n))
}

// Requests before the metadata is known are not failures of the server.
func TestRequestsBeforeMetadata(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	metadata, answer := gatetest.JSON(M{"issuer": a.URL, "introspection_endpoint": a.URL + "/introspect"}), gatetest.JSON(active(M{"iss": a.URL}))
	a.serve(func(w http.ResponseWriter, r *http.Request) {
		body := answer
		if r.URL.Path == authserver.OAuthPath {
			body = metadata
		}
		reply200(w, "application/json", body)
	})
	c := a.client(func(s *config.AuthorizationServer) {
		s.Issuer, s.Introspection.Endpoint = config.Identifier(a.URL), nil
	})
	for i := range 2 * breakerFailures {
		expect(t, c, fmt.Sprint("early ", i), access.IssuerUnavailable)
	}
	if err := c.remote.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "opaque", access.Granted)
}

// T-INT-07: the server goes down under load. Cached tokens pass, other tokens are refused without
// waiting, all goroutines end, and no restart is needed when the server is back.
func TestServerGoesAway(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.breakerTimeout = time.Second
	body := gatetest.JSON(active())
	var broken atomic.Bool
	a.serve(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
		reply200(w, "application/json", body)
	})
	c := a.client(caching(func(s *config.IntrospectionCache) { s.Entries = 10_000 }))
	for i := range 50 {
		expect(t, c, fmt.Sprint("known ", i), access.Granted)
	}
	before := runtime.NumGoroutine()
	broken.Store(true)
	a.CloseClientConnections()
	var group sync.WaitGroup
	var slowest atomic.Int64
	for worker := range 20 {
		group.Go(func() {
			for i := range 100 {
				expect(t, c, fmt.Sprint("known ", i%50), access.Granted)
				start := time.Now()
				expect(t, c, fmt.Sprint("new ", worker, " ", i), access.IssuerUnavailable)
				took := int64(time.Since(start))
				for {
					before := slowest.Load()
					if took <= before || slowest.CompareAndSwap(before, took) {
						break
					}
				}
			}
		})
	}
	group.Wait()
	t.Logf("2,000 new tokens refused by %d calls, the slowest after %s", a.calls.Load()-50, time.Duration(slowest.Load()))
	if n := a.calls.Load() - 50; n > 100 { // requests under way when the breaker opened
		t.Errorf("%d requests to a failing server, want at most 100", n)
	}
	gatetest.Eventually(t, "quiet", func() bool { return runtime.NumGoroutine() <= before+10 })
	broken.Store(false)
	gatetest.Eventually(t, "back", func() bool {
		_, reason := introspectToken(t, c, "new")
		return reason == access.Granted
	})
}

// A canceled request is not a failure of the server, also without a shared request.
func TestClientsThatLeave(t *testing.T) {
	a := newAuthority(t)
	arrived := make(chan struct{})
	a.serve(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	c := a.client(caching(func(s *config.IntrospectionCache) { s.MaxAge = 0 }))
	for i := range 3 * breakerFailures {
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			<-arrived
			leave()
		}()
		raw := fmt.Sprint("left ", i)
		if _, err := c.Introspect(ctx, queryOf(raw), certificateOf(1), ownedByNorthwind, nil); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	a.responds(active())
	expect(t, c, "opaque", access.Granted)
}

// A token that the server revokes while it responds is not cached for longer: the time counts
// from the request, and a late response to an early request does not replace a newer entry.
func TestLateResponses(t *testing.T) {
	a := newAuthority(t)
	c := a.client(caching(func(s *config.IntrospectionCache) { s.InactiveMaxAge = time.Hour }))
	sum, begin := facts.SumOf("opaque"), c.now()
	says := response{Response: Response{Claims: access.Unchecked{Expires: begin.Add(time.Hour)}}}
	c.cache.add(sum, says.at(begin.Add(-50*time.Second)), "northwind")
	if e := c.cache.fresh(sum, begin); e == nil {
		t.Error("the response is not cached, want an entry")
	}
	if e := c.cache.fresh(sum, begin.Add(10*time.Second)); e != nil {
		t.Errorf("the entry expires %s after the request, want at most max_age", e.expires.Sub(e.RequestedAt))
	}
	inactive := response{denial: &access.Denial{Reason: access.Inactive}}
	c.cache.add(sum, inactive.at(begin), "northwind")
	c.cache.add(sum, says.at(begin.Add(-time.Second)), "northwind") // requested earlier, answered later
	expect(t, c, "opaque", access.Inactive)
	c.cache.add(sum, says.at(begin.Add(time.Second)), "northwind")
	expect(t, c, "opaque", access.Granted)
	c.cache.add(sum, inactive.at(begin), "northwind")
	expect(t, c, "opaque", access.Granted)
	if n := a.calls.Load(); n != 0 {
		t.Errorf("%d requests, want 0", n)
	}
}

// A request is retried once if there was no connection, and in no other case.
func TestRetry(t *testing.T) {
	a := newAuthority(t)
	a.serve(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	c := a.client()
	expect(t, c, "opaque", access.IssuerUnavailable)
	if n := a.calls.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	a.Close()
	expect(t, c, "opaque", access.IssuerUnavailable) // both attempts fail, because nothing listens
	wantCounter(t, "failed", c.metrics.failed, 2)
}

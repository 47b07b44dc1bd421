package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
)

// manyPartners returns a Proxy for partners, with most slots at the gate and atUpstream slots at the one
// upstream, and the number of concurrent requests.
func manyPartners(partners int, most, atUpstream int64) (*Proxy, *atomic.Int64) {
	cfg := &config.Config{APIs: []config.API{{Name: "accounts", Upstream: config.Upstream{Requests: int(atUpstream)}}}}
	for i := range partners {
		grants := []config.Application{{APIs: []config.APIGrant{{API: "accounts"}}}}
		cfg.Partners.List = append(cfg.Partners.List, config.Partner{Name: config.Name(fmt.Sprint(i)), Applications: grants})
	}
	var inHand atomic.Int64
	return &Proxy{limits: partnerLimits{}.next(cfg), slotsLeft: func() int64 { return most - inHand.Load() }}, &inHand
}

// begin begins a request of partner and returns it, or nil without a free slot.
func begin(t *testing.T, p *Proxy, inHand *atomic.Int64, partner int) *exchange {
	t.Helper()
	x := &exchange{checkedRequest: checkedRequest{decision: access.Decision{Reason: access.Granted, API: "accounts", Partner: fmt.Sprint(partner)}}}
	inHand.Add(1)
	if p.admit(&x.decision, &x.slots); x.decision.Reason == access.Granted {
		return x
	}
	if x.decision.Reason != access.Overloaded || x.slots.api != nil {
		t.Fatalf("admit: reason %s, has a slot %t, want overloaded without a slot", x.decision.Reason, x.slots.api != nil)
	}
	x.slots.release(x.decision.Partner)
	inHand.Add(-1)
	return nil
}

// Partners that take and keep every slot they can get leave the same number of slots to the next
// partner. A partner alone gets half of the slots.
func TestPartnerLimits(t *testing.T) {
	const plenty = 1 << 20
	for _, most := range []int64{1, 2, 3, 10, 1000, 10_000, -1, -2, -3, -10, -1000} {
		for _, greedy := range []int{1, 2, 3, 9} {
			p, inHand := manyPartners(greedy+1, most, plenty)
			if most < 0 { // at the upstream
				p, inHand = manyPartners(greedy+1, plenty, -most)
			}
			most := max(most, -most)
			for more := true; more && inHand.Load() <= most; {
				more = false
				for partner := range greedy {
					more = begin(t, p, inHand, partner) != nil || more
				}
			}
			left := most - inHand.Load()
			if fair := most / int64(greedy+1); left < fair-int64(greedy) || left > fair+int64(greedy) {
				t.Errorf("%d partners leave %d of %d slots", greedy, left, most)
			}
			if left > 0 && begin(t, p, inHand, greedy) == nil {
				t.Errorf("after %d partners the next gets no slot, though %d of %d are free", greedy, left, most)
			}
		}
	}
}

// The end of a request frees its slot once. A refused request holds no slot.
func TestSlotsAreReleased(t *testing.T) {
	p, inHand := manyPartners(1, 4, 100)
	first, second := begin(t, p, inHand, 0), begin(t, p, inHand, 0)
	if first == nil || second == nil || begin(t, p, inHand, 0) != nil || p.limits.inFlight["0"].Load() != 2 {
		t.Fatalf("inFlight = %d, want 2", p.limits.inFlight["0"].Load())
	}
	first.slots.release("0")
	inHand.Add(-1)
	if begin(t, p, inHand, 0) == nil {
		t.Error("admit refuses a request after a slot was released")
	}
	refused := &exchange{checkedRequest: checkedRequest{decision: access.Decision{Reason: access.Expired, Partner: "0"}}}
	if p.admit(&refused.decision, &refused.slots); refused.slots.partner != nil || refused.decision.Reason != access.Expired {
		t.Errorf("admit changed a refusal to %s, has a slot: %t", refused.decision.Reason, refused.slots.partner != nil)
	}
}

// The Proxy of the next configuration shares the counts of concurrent requests and the rate limits.
func TestReloadKeepsPartnerLimits(t *testing.T) {
	application := func(id string, perSecond int) config.Application {
		return config.Application{ClientID: config.ClientID(id), RateLimit: &config.Rate{RequestsPerSecond: perSecond, Burst: 5}}
	}
	list := func(apps ...config.Application) *config.Config {
		partner := config.Partner{Name: "northwind", Applications: append(apps, config.Application{ClientID: "free"})}
		return &config.Config{Partners: config.Partners{List: []config.Partner{partner}}}
	}
	before := partnerLimits{}.next(list(application("same", 1), application("other", 1), application("gone", 1)))
	after := before.next(list(application("same", 1), application("other", 2)))
	if before.inFlight["northwind"] != after.inFlight["northwind"] || before.rates["same"] != after.rates["same"] {
		t.Error("next returned a new count or rate for an unchanged partner")
	}
	if got := after.rates["other"]; got == before.rates["other"] || got.Limit() != 2 || before.rates["other"].Limit() != 1 {
		t.Errorf("changed rate: new limit %v, previous limit %v, want 2 and 1", got.Limit(), before.rates["other"].Limit())
	}
	if len(after.rates) != 2 || len(after.inFlight) != 1 {
		t.Errorf("got %d rates, %d partners, want 2, 1", len(after.rates), len(after.inFlight))
	}
}

// A reload frees no slot in use at an upstream, even if the upstream changes, and drops the partners
// that may no longer call the API.
func TestReloadKeepsAPILimits(t *testing.T) {
	configure := func(requests int, partners ...config.Name) *config.Config {
		cfg := &config.Config{APIs: []config.API{{Name: "accounts", Upstream: config.Upstream{Requests: requests}}}}
		for _, name := range partners {
			grants := []config.Application{{APIs: []config.APIGrant{{API: "accounts"}}}}
			cfg.Partners.List = append(cfg.Partners.List, config.Partner{Name: name, Applications: grants})
		}
		cfg.Partners.List = append(cfg.Partners.List, config.Partner{Name: "without a grant"})
		return cfg
	}
	before := newAPILimits(configure(4, "northwind", "gone"), nil)
	for i, want := range []bool{true, true, false} {
		if got := before["accounts"].acquire(&access.Decision{Partner: "northwind"}); got != want {
			t.Fatalf("acquire %d = %v, want %v", i, got, want)
		}
	}
	after := newAPILimits(configure(6, "northwind", "new"), before)
	if !after["accounts"].acquire(&access.Decision{Partner: "northwind"}) || after["accounts"].acquire(&access.Decision{Partner: "northwind"}) {
		t.Error("acquire must succeed once for a partner that uses 2 of 6 slots")
	}
	if !after["accounts"].acquire(&access.Decision{Partner: "new"}) || after["accounts"].acquire(&access.Decision{Partner: "gone"}) || after["accounts"].acquire(&access.Decision{Partner: "without a grant"}) {
		t.Error("acquire must be true for a new partner and false for a partner without a grant")
	}
	before["accounts"].release("northwind")
	if got := after["accounts"].byPartner["northwind"].Load(); got != 2 || after["accounts"].inFlight.Load() != 3 {
		t.Errorf("the partner uses %d of %d slots, want 2 of 3", got, after["accounts"].inFlight.Load())
	}
}

func limited(perSecond, burst int) func(*config.Config) {
	return func(cfg *config.Config) {
		cfg.Partners.List[0].Applications[0].RateLimit = &config.Rate{RequestsPerSecond: perSecond, Burst: burst}
	}
}

// Only a granted request takes a token of the rate limit. A request beyond the rate is refused and not
// forwarded, and a reload fills no bucket.
func TestRateLimit(t *testing.T) {
	var arrived atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	defer upstream.Close()
	const burst = 20
	s := newHarness(t, upstream.URL, t.Output(), limited(1, burst))
	call := func(edit func(*http.Request)) *httptest.ResponseRecorder {
		r, w := s.request(), httptest.NewRecorder()
		if edit != nil {
			edit(r)
		}
		s.current.Load().ServeHTTP(w, r)
		return w
	}
	for name, edit := range map[string]func(*http.Request){
		"without a token":      func(r *http.Request) { r.Header.Del("Authorization") },
		"for an unknown route": func(r *http.Request) { r.URL.Path, r.RequestURI = "/none", "/none" },
		"too long":             func(r *http.Request) { r.ContentLength = 1 << 40 },
	} {
		for range 2 * burst {
			if w := call(edit); w.Code < 400 || w.Code == http.StatusTooManyRequests {
				t.Fatalf("%s: status %d", name, w.Code)
			}
		}
	}
	for range burst / 2 {
		if w := call(nil); w.Code != http.StatusOK {
			t.Fatalf("within the rate: got %d %s, want 200", w.Code, w.Body)
		}
	}
	s.next(t, limited(1, burst))
	granted := burst / 2
	for began := time.Now(); ; granted++ {
		w := call(nil)
		if w.Code == http.StatusTooManyRequests {
			if w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"reason":"rate_limited"`) {
				t.Errorf("refusal has header %v, body %s", w.Header(), w.Body)
			}
			break
		}
		if most := burst + 1 + int(time.Since(began)/time.Second); w.Code != http.StatusOK || granted > most {
			t.Fatalf("got %d after %d granted requests, want at most %d", w.Code, granted, most)
		}
	}
	if n := arrived.Load(); n != int64(granted) {
		t.Errorf("%d requests at the upstream, %d granted", n, granted)
	}
	if n := s.current.Load().limits.inFlight["northwind"].Load(); n != 0 {
		t.Errorf("inFlight = %d after all requests, want 0", n)
	}
}

// A recheck takes no token and no slot, and does not end a stream for lack of either.
func TestStreamsBeyondTheirLimits(t *testing.T) {
	for kind, open := range flows {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &gatetest.Log{}
			s := newHarness(t, up.URL, log, withTunnel, limited(1, 1))
			f := open(t, s, up)
			held := s.proxy.limits.inFlight["northwind"]
			if n := held.Load(); n != 1 {
				t.Errorf("inFlight = %d", n)
			}
			s.proxy.slotsLeft = func() int64 { return -1 }
			for until := time.Now().Add(4 * s.streams.recheckInterval); time.Now().Before(until); time.Sleep(time.Millisecond) {
				s.proxy.limits.rates["northwind-ledger"].Allow()
				select {
				case err := <-up.left:
					t.Fatalf("stream ended: %v\n%s", err, log)
				default:
				}
			}
			s.revoked.Store(true)
			expectEnd(t, s, up, log, kind, f, "revoked")
			gatetest.EventuallyEqual(t, "inFlight after the end of the stream", 0, held.Load)
		})
	}
}

// 100,000 applications with a rate limit take about 20 MB.
func TestPartnerLimitsOfManyApplications(t *testing.T) {
	const applications = 100_000
	list := make([]config.Partner, applications/100)
	for i := range list {
		list[i].Name = config.Name(fmt.Sprint("partner-", i))
		for j := range 100 {
			list[i].Applications = append(list[i].Applications, config.Application{
				ClientID: config.ClientID(fmt.Sprintf("application-%d-%d", i, j)), RateLimit: &config.Rate{RequestsPerSecond: 50, Burst: 100},
			})
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := partnerLimits{}.next(&config.Config{Partners: config.Partners{List: list}})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (after.HeapAlloc - before.HeapAlloc) / applications; each > 200 {
		t.Errorf("%d rates take %d bytes each", len(s.rates), each)
	}
	runtime.KeepAlive(list)
}

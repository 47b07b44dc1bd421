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
)

// crowd is a Proxy for so many partners, with most places at the gate and atUpstream at the one
// upstream, and how many requests are in hand.
func crowd(partners int, most, atUpstream int64) (*Proxy, *atomic.Int64) {
	cfg := &config.Config{APIs: []config.API{{Name: "accounts", Upstream: config.Upstream{Requests: int(atUpstream)}}}}
	for i := range partners {
		grants := []config.Application{{APIs: []config.APIGrant{{API: "accounts"}}}}
		cfg.Partners.List = append(cfg.Partners.List, config.Partner{Name: config.Name(fmt.Sprint(i)), Applications: grants})
	}
	var inHand atomic.Int64
	s := newPartnerLimits(cfg.Partners.List, partnerLimits{})
	s.apis = newAPILimits(cfg, nil)
	return &Proxy{limits: s, slotsLeft: func() int64 { return most - inHand.Load() }}, &inHand
}

// begin lets a request of a partner begin, and returns it, nil where there is no place.
func begin(t *testing.T, p *Proxy, inHand *atomic.Int64, partner int) *exchange {
	t.Helper()
	x := &exchange{proxy: p, decision: access.Decision{Reason: access.Granted, API: "accounts", Partner: fmt.Sprint(partner)}}
	inHand.Add(1)
	if p.admit(x); x.decision.Reason == access.Granted {
		return x
	}
	if x.decision.Reason != access.Overloaded || x.apiLimits != nil {
		t.Fatalf("refused as %s, with a place: %t", x.decision.Reason, x.apiLimits != nil)
	}
	x.release()
	inHand.Add(-1)
	return nil
}

// However many partners take every place that they can get and keep it, the next one still
// gets as many as each of them; and one alone has half.
func TestSharesOfPartners(t *testing.T) {
	const plenty = 1 << 20
	for _, most := range []int64{1, 2, 3, 10, 1000, 10_000, -1, -2, -3, -10, -1000} {
		for _, greedy := range []int{1, 2, 3, 9} {
			p, inHand := crowd(greedy+1, most, plenty)
			if most < 0 { // at the upstream
				p, inHand = crowd(greedy+1, plenty, -most)
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
				t.Errorf("%d partners leave %d places of %d", greedy, left, most)
			}
			if left > 0 && begin(t, p, inHand, greedy) == nil {
				t.Errorf("%d partners keep another out, with %d places of %d left", greedy, left, most)
			}
		}
	}
}

// Who leaves makes room, once; a request that was turned down holds nothing.
func TestSharesAreGivenBack(t *testing.T) {
	p, inHand := crowd(1, 4, 100)
	first, second := begin(t, p, inHand, 0), begin(t, p, inHand, 0)
	if first == nil || second == nil || begin(t, p, inHand, 0) != nil || p.limits.inFlight["0"].Load() != 2 {
		t.Fatalf("%d requests are held", p.limits.inFlight["0"].Load())
	}
	first.release()
	inHand.Add(-1)
	if begin(t, p, inHand, 0) == nil {
		t.Error("no place is free again")
	}
	refused := &exchange{proxy: p, decision: access.Decision{Reason: access.Expired, Partner: "0"}}
	if p.admit(refused); refused.partnerInFlight != nil || refused.decision.Reason != access.Expired {
		t.Errorf("a refusal becomes %s and holds a place: %t", refused.decision.Reason, refused.partnerInFlight != nil)
	}
}

// A Proxy that takes another's place knows what is held, and which turns were taken.
func TestSuccessorKnowsShares(t *testing.T) {
	application := func(id string, perSecond int) config.Application {
		return config.Application{ClientID: config.ClientID(id), RateLimit: &config.Rate{RequestsPerSecond: perSecond, Burst: 5}}
	}
	list := func(apps ...config.Application) []config.Partner {
		return []config.Partner{{Name: "northwind", Applications: append(apps, config.Application{ClientID: "free"})}}
	}
	before := newPartnerLimits(list(application("same", 1), application("other", 1), application("gone", 1)), partnerLimits{})
	after := newPartnerLimits(list(application("same", 1), application("other", 2)), before)
	if before.inFlight["northwind"] != after.inFlight["northwind"] || before.rates["same"] != after.rates["same"] {
		t.Error("what has not changed is another")
	}
	if got := after.rates["other"]; got == before.rates["other"] || got.Limit() != 2 || before.rates["other"].Limit() != 1 {
		t.Errorf("a rate that has changed is %v, and what the reload may not replace %v", got.Limit(), before.rates["other"].Limit())
	}
	if len(after.rates) != 2 || len(after.inFlight) != 1 {
		t.Errorf("there are %d rates, %d partners", len(after.rates), len(after.inFlight))
	}
}

// A reload gives back no place at an upstream that is taken, whatever it changes about the
// upstream, and forgets who may no longer call it.
func TestSuccessorKnowsPlaces(t *testing.T) {
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
		if got := before["accounts"].acquire("northwind"); got != want {
			t.Fatalf("take %d returned %v, want %v", i, got, want)
		}
	}
	after := newAPILimits(configure(6, "northwind", "new"), before)
	if !after["accounts"].acquire("northwind") || after["accounts"].acquire("northwind") {
		t.Error("of 6 places a partner that holds 2 may take one more")
	}
	if !after["accounts"].acquire("new") || after["accounts"].acquire("gone") || after["accounts"].acquire("without a grant") {
		t.Error("a place is for partners with a grant alone")
	}
	before["accounts"].release("northwind")
	if got := after["accounts"].byPartner["northwind"].Load(); got != 2 || after["accounts"].inFlight.Load() != 3 {
		t.Errorf("the partner holds %d of %d, want 2 of 3", got, after["accounts"].inFlight.Load())
	}
}

func limited(perSecond, burst int) func(*config.Config) {
	return func(cfg *config.Config) {
		cfg.Partners.List[0].Applications[0].RateLimit = &config.Rate{RequestsPerSecond: perSecond, Burst: burst}
	}
}

// A request takes a turn when it is granted, and only then; one beyond is refused and not
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
				t.Fatalf("%s: answered with %d", name, w.Code)
			}
		}
	}
	for range burst / 2 {
		if w := call(nil); w.Code != http.StatusOK {
			t.Fatalf("within the rate: answered with %d %s", w.Code, w.Body)
		}
	}
	s.next(t, limited(1, burst))
	granted := burst / 2
	for began := time.Now(); ; granted++ {
		w := call(nil)
		if w.Code == http.StatusTooManyRequests {
			if w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"reason":"rate_limited"`) {
				t.Errorf("refused by %v %s", w.Header(), w.Body)
			}
			break
		}
		if most := burst + 1 + int(time.Since(began)/time.Second); w.Code != http.StatusOK || granted > most {
			t.Fatalf("answered with %d after %d grants, want %d at most", w.Code, granted, most)
		}
	}
	if n := arrived.Load(); n != int64(granted) {
		t.Errorf("%d requests arrived, %d were granted", n, granted)
	}
	if n := s.current.Load().limits.inFlight["northwind"].Load(); n != 0 {
		t.Errorf("%d requests are held after their end", n)
	}
}

// A stream has had its turn: however empty the bucket and however few the places, the review
// of the decision takes nothing and ends nothing.
func TestStreamsBeyondTheirShare(t *testing.T) {
	for kind, open := range flows {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &lines{}
			s := newHarness(t, up.URL, log, withTunnel, limited(1, 1))
			f := open(t, s, s.listen(t), s.token)
			for s.streams.running.Load() == 0 { // an upload is on its way
				time.Sleep(time.Millisecond)
			}
			held := s.proxy.limits.inFlight["northwind"]
			if n := held.Load(); n != 1 {
				t.Errorf("%d requests are held", n)
			}
			s.proxy.slotsLeft = func() int64 { return -1 }
			for until := time.Now().Add(3 * recheckInterval); time.Now().Before(until); time.Sleep(time.Millisecond) {
				s.proxy.limits.rates["northwind-ledger"].Allow()
				select {
				case err := <-up.left:
					t.Fatalf("it has ended: %v\n%s", err, log)
				default:
				}
			}
			s.revoked.Store(true)
			expectEnd(t, s, up, log, kind, f, "revoked")
			for deadline := time.Now().Add(10 * time.Second); held.Load() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d requests are held after their end", held.Load())
				}
			}
		})
	}
}

// A hundred thousand applications with a rate take some 20 MB.
func TestSharesOfAFleet(t *testing.T) {
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
	s := newPartnerLimits(list, partnerLimits{})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (after.HeapAlloc - before.HeapAlloc) / applications; each > 200 {
		t.Errorf("each of %d rates takes %d bytes", len(s.rates), each)
	}
	runtime.KeepAlive(list)
}

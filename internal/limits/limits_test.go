package limits

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A request has been admitted, or refused before its limits were checked.
type request struct {
	decision access.Decision
	slots    Slots
}

// A gate has slots for most concurrent requests.
type gate struct {
	*Limits
	most, running int64
}

// manyPartners returns a gate for partners, with most slots at the gate and atUpstream slots at the one
// upstream.
func manyPartners(partners int, most, atUpstream int64) *gate {
	cfg := &config.Config{APIs: []config.API{{Name: "accounts", Upstream: config.Upstream{Requests: int(atUpstream)}}}}
	for i := range partners {
		grants := []config.Application{{APIs: []config.APIGrant{{API: "accounts"}}}}
		cfg.Partners.List = append(cfg.Partners.List, config.Partner{Name: config.Name(fmt.Sprint(i)), Applications: grants})
	}
	return &gate{Limits: (&Limits{}).next(cfg), most: most}
}

// begin begins a request of partner and returns it, or nil without a free slot.
func (g *gate) begin(t *testing.T, partner int) *request {
	t.Helper()
	r := &request{decision: access.Decision{Reason: access.Granted, API: "accounts", Partner: fmt.Sprint(partner)}}
	g.running++
	if g.Admit(&r.decision, g.most-g.running, &r.slots); r.decision.Reason == access.Granted {
		return r
	}
	if r.decision.Reason != access.Overloaded || r.slots.api != nil {
		t.Fatalf("Admit: reason %s, has a slot %t, want overloaded without a slot", r.decision.Reason, r.slots.api != nil)
	}
	r.slots.Release(r.decision.Partner)
	g.running--
	return nil
}

// Partners that take and keep every available slot leave the same number of slots to the next
// partner. A partner alone gets half of the slots.
func TestPartnerLimits(t *testing.T) {
	const plenty = 1 << 20
	for _, most := range []int64{1, 2, 3, 10, 1000, 10_000, -1, -2, -3, -10, -1000} {
		for _, greedy := range []int{1, 2, 3, 9} {
			g := manyPartners(greedy+1, most, plenty)
			if most < 0 { // -most is the limit at the upstream
				g = manyPartners(greedy+1, plenty, -most)
			}
			most := max(most, -most)
			for more := true; more && g.running <= most; {
				more = false
				for partner := range greedy {
					more = g.begin(t, partner) != nil || more
				}
			}
			left := most - g.running
			if fair := most / int64(greedy+1); left < fair-int64(greedy) || left > fair+int64(greedy) {
				t.Errorf("%d partners leave %d of %d slots", greedy, left, most)
			}
			if left > 0 && g.begin(t, greedy) == nil {
				t.Errorf("after %d partners the next gets no slot, though %d of %d are free", greedy, left, most)
			}
		}
	}
}

// The end of a request frees its slot once. A refused request holds no slot.
func TestSlotsAreReleased(t *testing.T) {
	g := manyPartners(1, 4, 100)
	first, second := g.begin(t, 0), g.begin(t, 0)
	if first == nil || second == nil || g.begin(t, 0) != nil || g.inFlight["0"].Load() != 2 {
		t.Fatalf("inFlight = %d, want 2", g.inFlight["0"].Load())
	}
	first.slots.Release("0")
	g.running--
	if g.begin(t, 0) == nil {
		t.Error("Admit refuses a request after a slot was released")
	}
	refused := &request{decision: access.Decision{Reason: access.Expired, Partner: "0"}}
	if g.Admit(&refused.decision, 4, &refused.slots); refused.slots.partner != nil || refused.decision.Reason != access.Expired {
		t.Errorf("Admit changed a refusal to %s, has a slot: %t", refused.decision.Reason, refused.slots.partner != nil)
	}
}

// The Limits of the next configuration share the counts of concurrent requests and the rate limits.
func TestReloadKeepsPartnerLimits(t *testing.T) {
	application := func(id string, perSecond int) config.Application {
		return config.Application{ClientID: config.ClientID(id), RateLimit: &config.Rate{RequestsPerSecond: perSecond, Burst: 5}}
	}
	list := func(apps ...config.Application) *config.Config {
		partner := config.Partner{Name: "northwind", Applications: append(apps, config.Application{ClientID: "free"})}
		return &config.Config{Partners: config.Partners{List: []config.Partner{partner}}}
	}
	before := (&Limits{}).next(list(application("same", 1), application("other", 1), application("gone", 1)))
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

// A grant without a partner is a bug, except the grant of a preflight.
func TestGrantWithoutPartner(t *testing.T) {
	g, d := manyPartners(1, 4, 100), access.Decision{Reason: access.Granted, API: "accounts"}
	g.Admit(&d, 4, &Slots{})
	if d.Reason != access.Undecided {
		t.Errorf("Admit of a grant without a partner: got %s, want undecided", d.Reason)
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
	s := (&Limits{}).next(&config.Config{Partners: config.Partners{List: list}})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (after.HeapAlloc - before.HeapAlloc) / applications; each > 200 {
		t.Errorf("%d rates take %d bytes each", len(s.rates), each)
	}
	runtime.KeepAlive(list)
}

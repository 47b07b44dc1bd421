package proxy

import (
	"sync/atomic"

	"github.com/tallygate/tallygate/config"
)

// places bound the requests to the upstream of one API, in all and by partner. They are safe for
// concurrent use.
type places struct {
	most   int64
	inHand *atomic.Int64            // requests to the upstream
	held   map[string]*atomic.Int64 // of them, by the name of the partner
}

// newPlaces returns the places of each API by its name. The counts of before go on where API and
// partner are the same.
func newPlaces(cfg *config.Config, before map[string]*places) map[string]*places {
	all := make(map[string]*places, len(cfg.APIs))
	for i := range cfg.APIs {
		name, old := string(cfg.APIs[i].Name), before[string(cfg.APIs[i].Name)]
		p := &places{most: int64(cfg.APIs[i].Upstream.Requests), held: make(map[string]*atomic.Int64)}
		if old == nil {
			old = &places{inHand: new(atomic.Int64)}
		}
		p.inHand = old.inHand
		for j := range cfg.Partners.List {
			partner := &cfg.Partners.List[j]
			if !mayCall(partner, cfg.APIs[i].Name) {
				continue
			}
			held := old.held[string(partner.Name)]
			if held == nil {
				held = new(atomic.Int64)
			}
			p.held[string(partner.Name)] = held
		}
		all[name] = p
	}
	return all
}

// mayCall reports whether an application of partner is granted some of api.
func mayCall(partner *config.Partner, api config.Name) bool {
	for i := range partner.Applications {
		for j := range partner.Applications[i].APIs {
			if partner.Applications[i].APIs[j].API == api {
				return true
			}
		}
	}
	return false
}

// take takes a place for a request of partner, which leave gives back, and reports false where the
// partner has as many as there are left: half of them while no other partner has any. See limit.
func (p *places) take(partner string) bool {
	held := p.held[partner]
	if held == nil { // nobody without a grant gets here
		return false
	}
	if left := p.most - p.inHand.Add(1); held.Add(1)-1 > left {
		p.leave(partner)
		return false
	}
	return true
}

// leave gives back a place that take took for partner.
func (p *places) leave(partner string) {
	p.held[partner].Add(-1)
	p.inHand.Add(-1)
}

package proxy

import (
	"sync/atomic"

	"github.com/tallygate/tallygate/config"
)

// places bound the requests to the upstream of one API, in all and by partner. They are safe for
// concurrent use.
type apiLimits struct {
	limit     int64
	inFlight  *atomic.Int64            // requests to the upstream
	byPartner map[string]*atomic.Int64 // of them, by the name of the partner
}

// newPlaces returns the places of each API by its name. The counts of before go on where API and
// partner are the same.
func newAPILimits(cfg *config.Config, prev map[string]*apiLimits) map[string]*apiLimits {
	all := make(map[string]*apiLimits, len(cfg.APIs))
	for i := range cfg.APIs {
		name, old := string(cfg.APIs[i].Name), prev[string(cfg.APIs[i].Name)]
		p := &apiLimits{limit: int64(cfg.APIs[i].Upstream.Requests), byPartner: make(map[string]*atomic.Int64)}
		if old == nil {
			old = &apiLimits{inFlight: new(atomic.Int64)}
		}
		p.inFlight = old.inFlight
		for j := range cfg.Partners.List {
			partner := &cfg.Partners.List[j]
			if !mayCall(partner, cfg.APIs[i].Name) {
				continue
			}
			held := old.byPartner[string(partner.Name)]
			if held == nil {
				held = new(atomic.Int64)
			}
			p.byPartner[string(partner.Name)] = held
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
func (p *apiLimits) acquire(partner string) bool {
	held := p.byPartner[partner]
	if held == nil { // nobody without a grant gets here
		return false
	}
	if left := p.limit - p.inFlight.Add(1); held.Add(1)-1 > left {
		p.release(partner)
		return false
	}
	return true
}

// leave gives back a place that take took for partner.
func (p *apiLimits) release(partner string) {
	p.byPartner[partner].Add(-1)
	p.inFlight.Add(-1)
}

package limits

import (
	"slices"
	"sync/atomic"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// apiLimits bound the concurrent requests to the upstream of one API, in total and for each partner.
// They are safe for concurrent use.
type apiLimits struct {
	limit     int64
	inFlight  *atomic.Int64            // concurrent requests to the upstream
	byPartner map[string]*atomic.Int64 // inFlight of each partner, by partner name; absent for a partner without a grant
}

// newAPILimits returns the limits of each API by its name. For an API and partner that prev also has,
// the limits share the counts of prev.
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
			p.byPartner[string(partner.Name)] = countOf(old.byPartner, string(partner.Name))
		}
		if answersPreflights(cfg.APIs[i]) {
			p.byPartner[anonymous] = countOf(old.byPartner, anonymous)
		}
		all[name] = p
	}
	return all
}

// answersPreflights reports whether a route of api answers preflights.
func answersPreflights(api config.API) bool {
	return slices.ContainsFunc(api.Routes, func(r config.Route) bool { return r.Preflight == config.PreflightAllow })
}

// mayCall reports whether an application of partner has a grant for api.
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

// acquire takes a slot for a request with the decision d; the caller must call release. It takes no
// slot and returns false if the partner already uses as many slots as remain free. See [Limits.Admit].
func (p *apiLimits) acquire(d *access.Decision) bool {
	held := p.byPartner[d.Partner]
	if held == nil { // a request of a partner without a grant for the API is never granted
		return false
	}
	if left := p.limit - p.inFlight.Add(1); held.Add(1)-1 > share(d, left) {
		p.release(d.Partner)
		return false
	}
	return true
}

// release frees a slot that acquire took for partner.
func (p *apiLimits) release(partner string) {
	p.byPartner[partner].Add(-1)
	p.inFlight.Add(-1)
}

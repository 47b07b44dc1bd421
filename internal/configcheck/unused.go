package configcheck

import (
	"slices"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// unused warns of partners, APIs and anchors that no request can use.
func (e *examiner) unused() {
	granted := make(map[config.Name]bool)
	for i := range e.cfg.Partners.List {
		p := &e.cfg.Partners.List[i]
		if len(p.Applications) == 0 {
			e.warn(strictyaml.Index("partners.list", i), "has no applications, so this partner can call nothing")
		}
		for j := range p.Applications {
			for _, g := range p.Applications[j].APIs {
				granted[g.API] = true
			}
		}
	}
	for i := range e.cfg.APIs {
		if !granted[e.cfg.APIs[i].Name] {
			e.warn(strictyaml.Index("apis", i), "no application may call this API: no apis of an application lists it")
		}
	}
	e.unusedTrust()
}

// unusedTrust warns of anchors of the listener that no partner and no resource server uses.
func (e *examiner) unusedTrust() {
	shared := len(e.cfg.Listener.ClientCertificates.Trust) > 0
	own := !slices.ContainsFunc(e.cfg.Partners.List, func(p config.Partner) bool { return len(p.Trust) == 0 })
	if e.cfg.Issuer != nil {
		own = own && !slices.ContainsFunc(e.cfg.Issuer.ResourceServers, func(s config.ResourceServer) bool { return len(s.Trust) == 0 })
	}
	if shared && own {
		e.warn("listener.client_certificates.trust", "no client uses these anchors: every partner has trust of its own")
	}
}

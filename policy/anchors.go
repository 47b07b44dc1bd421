package policy

import (
	"errors"
	"fmt"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// CheckAnchors returns an error for each application that registers no certificate
// while its partner shares an anchor with another partner: it would take that other
// partner's certificates for its own. An application with self_signed_tls_client_auth goes
// by its registered certificates and not by anchors, so its partner may share them. anchors
// is [Certificates.Anchors]. Two files may hold one certificate, so this can only be told
// once they have been read.
func CheckAnchors(cfg *config.Config, anchors map[config.Name][]access.AnchorKey) error {
	var faults []error
	shared := sharedWith(cfg, anchors)
	for i := range cfg.Partners.List {
		p := &cfg.Partners.List[i]
		other := shared[p.Name]
		if other == "" {
			continue
		}
		for j := range p.Applications {
			if a := &p.Applications[j]; !a.Certificate.MatchesAny() || a.Authentication == config.SelfSignedTLSClientAuth {
				continue
			}
			path := fmt.Sprintf("partners.list[%d].applications[%d]", i, j)
			faults = append(faults, fmt.Errorf("%s: %s.certificate: register a name or a thumbprint, since partners %s and %s share an anchor and either's certificates would count as this application's",
				cfg.Position(path), path, p.Name, other))
		}
	}
	return errors.Join(faults...)
}

// sharedWith returns, for each partner that shares an anchor, one other that has it.
func sharedWith(cfg *config.Config, anchors map[config.Name][]access.AnchorKey) map[config.Name]config.Name {
	shared := make(map[config.Name]config.Name)
	owner := make(map[access.AnchorKey]config.Name)
	for i := range cfg.Partners.List {
		name := cfg.Partners.List[i].Name
		for _, a := range anchors[name] {
			first, taken := owner[a]
			if !taken {
				owner[a] = name
			} else if first != name {
				shared[name], shared[first] = first, name
			}
		}
	}
	return shared
}

package policy

import (
	"errors"
	"fmt"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// CheckAnchors returns an error for each application that registers no certificate while its partner
// shares an anchor with another partner: the application would accept the certificates of both
// partners. An application with self_signed_tls_client_auth ignores anchors, so its partner may share
// them. anchors is [Certificates.Anchors]. Two files may hold the same anchor, so the check needs the
// contents of the files.
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
			faults = append(faults, fmt.Errorf("%s: %s.certificate: register a name or a thumbprint, because partners %s and %s share an anchor and certificates of both would be accepted for this application",
				cfg.Position(path), path, p.Name, other))
		}
	}
	return errors.Join(faults...)
}

// sharedWith maps each partner that shares an anchor to another partner with the same anchor.
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

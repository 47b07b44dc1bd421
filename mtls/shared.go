package mtls

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// sharedConstraints returns an error for each list of anchors that shares a key with an earlier list
// but has other name constraints for the key. An anchor is identified by its key, and a chain may end
// in any certificate with the key. So a certificate with fewer constraints would remove the
// constraints of the other list. Two such certificates in one list are allowed, because one operator
// has chosen both certificates.
func sharedConstraints(cfg *config.Config, files bundles) error {
	type holder struct {
		path        string
		constraints map[string]bool
	}
	first := make(map[access.AnchorKey]holder)
	var faults []error
	check := func(path string, trust []config.Path) {
		own := make(map[access.AnchorKey]holder)
		for _, file := range trust {
			for _, c := range files[file].certificates {
				key := anchorKeyOf(c)
				if own[key].constraints == nil {
					own[key] = holder{path, make(map[string]bool)}
				}
				value, _ := extensionOf(c, oidNameConstraints)
				own[key].constraints[string(value)] = true
			}
		}
		for _, key := range slices.SortedFunc(maps.Keys(own), compareKeys) {
			before, known := first[key]
			switch {
			case !known:
				first[key] = own[key]
			case !maps.Equal(before.constraints, own[key].constraints):
				faults = append(faults, fmt.Errorf("%s: %s: an anchor has the key of an anchor in %s and other name constraints, which could not be told apart; list the same certificate in both",
					cfg.Position(path), path, before.path))
			}
		}
	}
	check("listener.client_certificates.trust", cfg.Listener.ClientCertificates.Trust)
	for i := range cfg.Partners.List {
		check(fmt.Sprintf("partners.list[%d].trust", i), cfg.Partners.List[i].Trust)
	}
	if cfg.Issuer != nil {
		for i := range cfg.Issuer.ResourceServers {
			check(fmt.Sprintf("issuer.resource_servers[%d].trust", i), cfg.Issuer.ResourceServers[i].Trust)
		}
		for i := range cfg.Issuer.Operators {
			check(fmt.Sprintf("issuer.operators[%d].trust", i), cfg.Issuer.Operators[i].Trust)
		}
	}
	return errors.Join(faults...)
}

// operatorsDisjoint returns an error for each operator with an anchor that is also an anchor of a partner or of the
// listener. With such an anchor the authority of a partner could issue the certificate of an operator. Chains that only
// pass through the authority of a partner are refused when they are verified: see crossesPartner.
func (t *Trust) operatorsDisjoint(cfg *config.Config, files bundles) error {
	if cfg.Issuer == nil {
		return nil
	}
	clients := maps.Clone(t.partners)
	for _, file := range cfg.Listener.ClientCertificates.Trust { // also if every partner has trust of its own
		for _, c := range files[file].certificates {
			clients[anchorKeyOf(c)] = true
		}
	}
	var faults []error
	for i, o := range cfg.Issuer.Operators {
		path := fmt.Sprintf("issuer.operators[%d].trust", i)
		for _, file := range o.Trust {
			for _, c := range files[file].certificates {
				if clients[anchorKeyOf(c)] {
					faults = append(faults, fmt.Errorf("%s: %s: the anchor %s in %s is also an anchor of a partner or of listener.client_certificates, whose authority could issue the certificate of an operator",
						cfg.Position(path), path, c.Subject, file))
				}
			}
		}
	}
	return errors.Join(faults...)
}

func compareKeys(a, b access.AnchorKey) int { return slices.Compare(a[:], b[:]) }

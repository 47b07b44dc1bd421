package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// CheckRegistered returns an error for each application that registers a certificate of another
// application, because the holder of the private key could act as both applications. registered is
// [Certificates.Registered]. Two files may hold the same certificate, so the check needs the contents
// of the files.
func CheckRegistered(cfg *config.Config, registered map[config.ClientID]map[access.Thumbprint]bool) error {
	var faults []error
	owner := make(map[access.Thumbprint]config.ClientID)
	for i := range cfg.Partners.List {
		for j := range cfg.Partners.List[i].Applications {
			a := &cfg.Partners.List[i].Applications[j]
			var others []config.ClientID
			for t := range thumbprintsOf(a, registered[a.ClientID]) {
				if first, taken := owner[t]; !taken {
					owner[t] = a.ClientID
				} else if !slices.Contains(others, first) {
					others = append(others, first)
				}
			}
			slices.Sort(others)
			for _, other := range others {
				path := fmt.Sprintf("partners.list[%d].applications[%d]", i, j)
				faults = append(faults, fmt.Errorf("%s: %s: a certificate of %s is already registered for %s: a certificate belongs to one application",
					cfg.Position(path), path, a.ClientID, other))
			}
		}
	}
	return errors.Join(faults...)
}

// thumbprintsOf returns the thumbprints of the certificates of a: the thumbprints in the
// configuration, and read, which are the thumbprints of the certificates in its files and key sets.
func thumbprintsOf(a *config.Application, read map[access.Thumbprint]bool) map[access.Thumbprint]bool {
	all := make(map[access.Thumbprint]bool, len(read)+len(a.Certificate.Thumbprints))
	for t := range read {
		all[t] = true
	}
	for _, t := range a.Certificate.Thumbprints {
		all[t] = true
	}
	return all
}

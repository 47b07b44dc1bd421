package mtls

import (
	"crypto/x509"
	"slices"

	"github.com/tallygate/tallygate/access"
)

// crossesPartner reports whether chain must be refused because of a certificate between the leaf and the last
// anchor. The key of this certificate is an anchor of one partner, and another partner, a resource server or
// an operator lists the last anchor without this key. The authority of one partner may be certified by the authority of
// another partner, or by an authority that several partners share. If such chains were accepted, the
// certified authority could issue certificates with any name for the other partners. If the certified
// authority may issue for both partners, both partners must list it as an anchor. Then the shorter chain,
// which ends at this authority, is accepted for both.
//
// The client may present the certificate of the authority in between, so a check of the configuration when it
// is loaded cannot find such chains.
func (t *Trust) crossesPartner(chain []*x509.Certificate) bool {
	if len(chain) < 3 {
		return false
	}
	last := anchorKeyOf(chain[len(chain)-1])
	for _, c := range chain[1 : len(chain)-1] {
		between := anchorKeyOf(c)
		if t.partners[between] && (listsOnlyFirst(t.anchors, last, between) || listsOnlyFirst(t.servers, last, between) || listsOnlyFirst(t.operators, last, between)) {
			return true
		}
	}
	return false
}

// listsOnlyFirst reports whether at least one list has the first key and not the second key.
func listsOnlyFirst[N ~string](lists map[N][]access.AnchorKey, first, second access.AnchorKey) bool {
	for _, list := range lists {
		if slices.Contains(list, first) && !slices.Contains(list, second) {
			return true
		}
	}
	return false
}

// keysOf returns the keys in all lists.
func keysOf[N ~string](lists map[N][]access.AnchorKey) map[access.AnchorKey]bool {
	keys := make(map[access.AnchorKey]bool, len(lists))
	for _, list := range lists {
		for _, key := range list {
			keys[key] = true
		}
	}
	return keys
}

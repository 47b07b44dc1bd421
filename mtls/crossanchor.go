package mtls

import (
	"crypto/x509"
	"slices"

	"github.com/tallygate/tallygate/access"
)

// leadsThroughOthers reports whether a way, the client's certificate first and an anchor last,
// leads through an anchor of a partner that is no anchor of everybody who has the last one. The
// way does not count then. An authority that a partner runs may be certified by the authority of
// another partner, or of several partners together, and would otherwise speak for them: it can
// give its clients any name. Where it is meant to speak for both, both list it, and the shorter
// way to it counts for both.
//
// The certificate of the authority in between may be one that only the client shows, so that the
// configuration cannot be refused for it.
func (t *Trust) crossesPartner(way []*x509.Certificate) bool {
	if len(way) < 3 {
		return false
	}
	last := anchorKeyOf(way[len(way)-1])
	for _, c := range way[1 : len(way)-1] {
		between := anchorKeyOf(c)
		if t.partners[between] && (listsOnlyFirst(t.anchors, last, between) || listsOnlyFirst(t.servers, last, between)) {
			return true
		}
	}
	return false
}

// apart reports whether a list has the first key without the second.
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

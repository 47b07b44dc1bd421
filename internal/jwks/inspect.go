package jwks

import (
	"fmt"

	"github.com/tallygate/tallygate/config"
)

// Read reads a JWK Set (RFC 7517 section 5) without a [Source], for a command that describes a server.
// algorithms are the accepted algorithms. tenant has the meaning of
// [config.AuthorizationServer.Tenant]. If the set has no usable key, the error says why each key is
// left out.
func Read(document []byte, algorithms []config.Algorithm, tenant string) (*Set, error) {
	return parse(document, algorithms, tenant)
}

// Usable describes each key of s: its kid and its algorithms.
func (s *Set) Usable() []string {
	usable := make([]string, 0, len(s.keys))
	for _, k := range s.keys {
		usable = append(usable, fmt.Sprintf("kid %q for %s", k.id, k.algorithms))
	}
	return usable
}

// Algorithms returns the algorithms of the keys of s, each once, in the order of the keys.
func (s *Set) Algorithms() (all []config.Algorithm) {
	for _, k := range s.keys {
		for _, a := range k.algorithms {
			if !Accepts(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// Unusable describes each key that is left out because it is malformed, weak, or of an algorithm that
// is not accepted, with the reason. It does not list keys for other uses, such as encryption.
func (s *Set) Unusable() []string { return s.leftOut.unusable }

// Verify checks the signature of t by the keys of s. The error wraps an [access.Denial].
func (s *Set) Verify(t *JWS) error {
	_, err := verifyingKey(t, s)
	return err
}

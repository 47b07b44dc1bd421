// Package jwks holds the public keys of authorization servers: in goes where a
// server's key set is (a URL, its metadata, a file, the configuration, our own issuer),
// out comes whether a JWS was signed by one of its keys. The keys of one server never
// verify for another. It judges signatures and nothing that they sign.
package jwks

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/weakkey"
)

const (
	// maxCandidates bounds the signatures that are computed for one token. Nobody
	// needs a second key of one name and type; two give room for a clumsy rotation.
	maxCandidates = 4
	// maxKeys bounds the keys of a set, of which each may cost the parsing of its
	// certificates: a server has two or three while it rotates, a shared one some dozens.
	maxKeys = 100
	// maxChain bounds the certificates of a key. Chains in use have two to four.
	maxChain = 10
)

// A Fingerprint names a key, its kid and the algorithms that it may be used with.
type Fingerprint [sha256.Size]byte

// A Set is the usable public keys of one authorization server as of one
// reading. It is never changed.
type Set struct {
	keys            []*key
	byID            map[string][]*key // those that have a kid
	withoutID       []*key            // those that have none
	fingerprints    map[Fingerprint]bool
	leftOut         leftOut
	fetchedAt       time.Time // when the reading began
	fetchedDocument           // of one that comes from a URL
}

// A key verifies signatures by its algorithms, of which there is at least one.
type key struct {
	id          string // kid; "" when the key has none
	algorithms  []config.Algorithm
	public      crypto.PublicKey
	fingerprint Fingerprint
}

var errNoKeys = errors.New("no usable key")

// parse reads a JWK Set, RFC 7517 section 5, and keeps the public parts of the
// keys that verify signatures by one of algorithms. Other keys are left out, as
// section 5 wants it, and so are weak ones; that none is left is an error, and so are more
// than 100 keys and JSON in which an object has two members of one name.
func parse(document []byte, algorithms []config.Algorithm) (*Set, error) {
	if jsontext.Value(document).Kind() != jsontext.KindBeginObject {
		return nil, errNoObject
	}
	if err := jsonlimit.Check(document); err != nil {
		return nil, fmt.Errorf("decoding JWK Set: %w", err)
	}
	var jwks struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(document, &jwks); err != nil {
		return nil, fmt.Errorf("decoding JWK Set: %w", err)
	}
	if len(jwks.Keys) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	set := &Set{byID: make(map[string][]*key), fingerprints: make(map[Fingerprint]bool)}
	for i, jwk := range jwks.Keys {
		k, id, err := parseKey(jwk, algorithms)
		if err != nil {
			set.leftOut.add(i, id, err)
			continue
		}
		set.keys = append(set.keys, k)
		set.fingerprints[k.fingerprint] = true
		if k.id != "" {
			set.byID[k.id] = append(set.byID[k.id], k)
		} else {
			set.withoutID = append(set.withoutID, k)
		}
	}
	if len(set.keys) == 0 {
		if left := append(set.leftOut.unusable, set.leftOut.otherUse...); len(left) > 0 {
			return nil, fmt.Errorf("%w: %s", errNoKeys, strings.Join(firstLogged(left), "; "))
		}
		return nil, errNoKeys
	}
	return set, nil
}

// parseKey returns the key that a JWK holds, or its kid and why it does not count. The
// reason wraps errOtherUse for a key that is sound and of no use here.
func parseKey(document jsontext.Value, algorithms []config.Algorithm) (k *key, id string, reason error) {
	var members jwkset.JWKMarshal
	if json.Unmarshal(document, &members) != nil {
		return nil, "", errors.New("it is no JWK: not an object, or with a member of the wrong type")
	}
	id = members.KID
	if len(members.X5C) > maxChain {
		return nil, id, fmt.Errorf("more than %d certificates in x5c", maxChain)
	}
	if members.USE != "" && members.USE != jwkset.UseSig {
		return nil, id, fmt.Errorf("%w: use %q", errOtherUse, members.USE)
	}
	if len(members.KEYOPS) > 0 && !slices.Contains(members.KEYOPS, jwkset.KeyOpsVerify) {
		return nil, id, fmt.Errorf("%w: key_ops without verify", errOtherUse)
	}
	// Private false: of a key pair, only the public part is taken.
	jwk, err := jwkset.NewJWKFromMarshal(members, jwkset.JWKMarshalOptions{Private: false}, jwkset.JWKValidateOptions{})
	switch {
	case errors.Is(err, jwkset.ErrUnsupportedKey):
		return nil, id, fmt.Errorf("%w: kty %q, crv %q", errOtherUse, members.KTY, members.CRV)
	case err != nil:
		return nil, id, err
	}
	k = &key{id: id, public: jwk.Key()}
	if err := weakkey.Fault(k.public); err != nil {
		return nil, id, err
	}
	for _, a := range algorithmsFor(k.public) {
		// A key that names its algorithm is used with no other, RFC 8725 section 3.1.
		if slices.Contains(algorithms, a) && (members.ALG == "" || members.ALG.String() == string(a)) {
			k.algorithms = append(k.algorithms, a)
		}
	}
	if len(k.algorithms) == 0 {
		return nil, id, fmt.Errorf("%w: kty %q, crv %q, alg %q fit none of the accepted algorithms", errOtherUse, members.KTY, members.CRV, members.ALG)
	}
	return k, id, k.setFingerprint()
}

// fitting returns the algorithms that public can verify, RFC 7518 section 3.1 and
// RFC 8037 section 3.1.
func algorithmsFor(public crypto.PublicKey) []config.Algorithm {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return []config.Algorithm{config.ES256}
		case elliptic.P384():
			return []config.Algorithm{config.ES384}
		case elliptic.P521():
			return []config.Algorithm{config.ES512}
		}
	case ed25519.PublicKey:
		return []config.Algorithm{config.EdDSA}
	case *rsa.PublicKey:
		return []config.Algorithm{config.PS256, config.PS384, config.PS512, config.RS256}
	}
	return nil
}

// name sets k's fingerprint. A key that is published anew under another kid or for
// another algorithm has another one.
func (k *key) setFingerprint() error {
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%q %q ", k.id, k.algorithms)
	b.Write(der)
	k.fingerprint = sha256.Sum256(b.Bytes())
	return nil
}

// Has reports whether the set has the key of that fingerprint.
func (s *Set) Has(f Fingerprint) bool { return s.fingerprints[f] }

// knows reports whether a key of the set has this kid.
func (s *Set) hasKeyID(keyID string) bool { return len(s.byID[keyID]) > 0 }

// find returns the keys that may have signed t, at most [maxCandidates]: those with its
// kid that fit its algorithm or, where no key has that kid, those that have none and
// fit. A JWS without kid has a key only when exactly one of all fits: to try them all
// would be work that a stranger asks for.
func (s *Set) candidates(t *JWS) []*key {
	among := s.keys
	if t.NamesKey {
		among = s.byID[t.KeyID]
		if len(among) == 0 {
			among = s.withoutID
		}
	}
	var fit []*key
	for _, k := range among {
		if slices.Contains(k.algorithms, config.Algorithm(t.Algorithm)) {
			fit = append(fit, k)
		}
	}
	if !t.NamesKey && len(fit) != 1 {
		return nil
	}
	return fit[:min(len(fit), maxCandidates)]
}

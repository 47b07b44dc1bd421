// Package jwks holds the public keys of authorization servers and verifies JWS signatures with these
// keys. A key set comes from a URL, the server's metadata, a file, the configuration or our own issuer.
// The keys of a server never verify tokens of another server. The package checks signatures, and not
// the claims in the signed tokens.
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

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/weakkey"
)

const (
	// maxCandidates bounds the signatures that are verified for one token. A server needs only one key
	// for each kid and type. Four allow for a rotation in which several keys have the same kid.
	maxCandidates = 4
	// maxKeys bounds the keys of a set, because the certificates of each key have to be parsed. Servers
	// have two or three keys during a rotation, and shared key sets have some dozens.
	maxKeys = 100
	// maxChain bounds the certificates of a key. Chains in use have two to four.
	maxChain = 10
	// maxRSABits bounds an RSA key, as crypto/tls does. A token need not be valid to name a key, and the
	// verification of its signature takes 0.5 s with 65536 bits. Keys in use have 2048 to 4096 bits.
	maxRSABits = 8192
)

// A Fingerprint identifies a key together with its kid and its algorithms.
type Fingerprint [sha256.Size]byte

// A Set holds the usable public keys of an authorization server at one moment. It is immutable.
type Set struct {
	keys            []*key
	byID            map[string][]*key // keys with a kid
	withoutID       []*key            // keys without a kid
	fingerprints    map[Fingerprint]bool
	leftOut         leftOut
	described       string    // text for the log: the keys of the set, and the keys that are left out
	fetchedAt       time.Time // time at which the fetch began
	fetchedDocument           // zero unless the set comes from a URL
}

// A key verifies signatures by its algorithms. It has at least one algorithm.
type key struct {
	id          string // kid; "" when absent
	algorithms  []config.Algorithm
	public      crypto.PublicKey
	fingerprint Fingerprint
}

var errNoKeys = errors.New("no usable key")

// parse reads a JWK Set (RFC 7517 section 5). It keeps the public part of each key that can verify
// signatures by an algorithm in algorithms. It leaves out weak keys, keys of other tenants and, as
// section 5 requires, unknown keys. A set without a usable key, a set of more than 100 keys, and
// duplicate members are errors.
func parse(document []byte, algorithms []config.Algorithm, tenant string) (*Set, error) {
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
		if err == nil {
			err = checkTenant(jwk, tenant)
		}
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
		if len(jwks.Keys) == 0 {
			return nil, fmt.Errorf("%w: the set is empty", errNoKeys)
		}
		return nil, fmt.Errorf("%w: %s", errNoKeys, set.leftOut.text(maxLogged))
	}
	set.described = set.describe()
	return set, nil
}

// parseKey returns the key in a JWK, or its kid and the reason why the key is left out. The reason
// wraps errOtherUse if the key is valid but meant for another purpose.
func parseKey(document jsontext.Value, algorithms []config.Algorithm) (k *key, id string, reason error) {
	var members jwkset.JWKMarshal
	if json.Unmarshal(document, &members) != nil {
		return nil, "", errors.New("not a JWK: not an object, or a member of the wrong type")
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
	// With Private false, only the public part of a key pair is kept.
	jwk, err := jwkset.NewJWKFromMarshal(members, jwkset.JWKMarshalOptions{Private: false}, jwkset.JWKValidateOptions{})
	switch {
	case errors.Is(err, jwkset.ErrUnsupportedKey):
		return nil, id, fmt.Errorf("kty %q, crv %q are not supported", members.KTY, members.CRV)
	case err != nil:
		return nil, id, err
	}
	k = &key{id: id, public: jwk.Key()}
	if err := weakkey.Check(k.public); err != nil {
		return nil, id, err
	}
	if public, ok := k.public.(*rsa.PublicKey); ok && public.N.BitLen() > maxRSABits {
		return nil, id, fmt.Errorf("an RSA key of more than %d bits", maxRSABits)
	}
	for _, a := range algorithmsFor(k.public) {
		// If a key has an alg, the key is used only with that algorithm (RFC 8725 section 3.1).
		if Accepts(algorithms, a) && (members.ALG == "" || isAlgorithm(config.Algorithm(members.ALG.String()), a)) {
			k.algorithms = append(k.algorithms, a)
		}
	}
	if len(k.algorithms) == 0 {
		return nil, id, fmt.Errorf("kty %q, crv %q, alg %q fit none of the accepted algorithms %q", members.KTY, members.CRV, members.ALG, algorithms)
	}
	return k, id, k.setFingerprint()
}

// Accepts reports whether list has a. If list has EdDSA, Accepts also accepts Ed25519, the name of the
// same algorithm since RFC 9864.
func Accepts(list []config.Algorithm, a config.Algorithm) bool {
	return slices.Contains(list, a) || a == config.Ed25519 && slices.Contains(list, config.EdDSA)
}

// isAlgorithm reports whether a key whose member alg is alg may be used with the algorithm a. For a key
// on the curve Ed25519, EdDSA and Ed25519 are the same algorithm (RFC 9864 section 2.2).
func isAlgorithm(alg, a config.Algorithm) bool {
	return alg == a || alg == config.EdDSA && a == config.Ed25519 || alg == config.Ed25519 && a == config.EdDSA
}

// checkTenant returns an error for a key that Entra publishes for the tokens of another tenant than
// tenant. The member issuer of the key names its tenant. If tenant is "", all keys pass.
func checkTenant(document jsontext.Value, tenant string) error {
	if tenant == "" {
		return nil
	}
	var members struct {
		Issuer string `json:"issuer"`
	}
	if json.Unmarshal(document, &members) != nil {
		return errors.New("its member issuer is not a string")
	}
	issuer := strings.ToLower(members.Issuer)
	if issuer == "" || strings.Contains(issuer, "{tenantid}") || strings.Contains(issuer, strings.ToLower(tenant)) {
		return nil
	}
	return fmt.Errorf("for the issuer %q alone", access.Truncate(members.Issuer))
}

// algorithmsFor returns the algorithms whose signatures public can verify (RFC 7518 section 3.1, RFC
// 8037 section 3.1 and RFC 9864 section 2.2).
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
		return []config.Algorithm{config.EdDSA, config.Ed25519}
	case *rsa.PublicKey:
		return []config.Algorithm{config.PS256, config.PS384, config.PS512, config.RS256, config.RS384, config.RS512}
	}
	return nil
}

// setFingerprint computes k's fingerprint. A key that is published again with another kid or
// algorithm gets another fingerprint.
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

// Has reports whether the set has the key with the fingerprint f.
func (s *Set) Has(f Fingerprint) bool { return s.fingerprints[f] }

// Fingerprints returns the fingerprints of the keys in the set. The caller must not change the result. A nil set has none.
func (s *Set) Fingerprints() map[Fingerprint]bool {
	if s == nil {
		return nil
	}
	return s.fingerprints
}

func (s *Set) hasKeyID(keyID string) bool { return len(s.byID[keyID]) > 0 }

// candidates returns at most [maxCandidates] keys that may have signed t. The candidates are the keys
// that have t's kid and fit t's algorithm. If no key has t's kid, the candidates are the keys without a
// kid that fit the algorithm. If t has no kid, the candidates are all keys that fit the algorithm (RFC
// 7515 appendix D). The bound limits the work that a client can cause.
func (s *Set) candidates(t *JWS) []*key {
	keys := s.keys
	if t.NamesKey {
		keys = s.byID[t.KeyID]
		if len(keys) == 0 {
			keys = s.withoutID
		}
	}
	var fit []*key
	for _, k := range keys {
		if slices.Contains(k.algorithms, config.Algorithm(t.Algorithm)) {
			fit = append(fit, k)
		}
	}
	return fit[:min(len(fit), maxCandidates)]
}

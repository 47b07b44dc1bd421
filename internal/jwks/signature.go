package jwks

import (
	"errors"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// signingMethods are the supported algorithms. No configuration and no token can add one.
var signingMethods = map[config.Algorithm]jwt.SigningMethod{
	config.ES256: jwt.SigningMethodES256,
	config.ES384: jwt.SigningMethodES384,
	config.ES512: jwt.SigningMethodES512,
	config.PS256: strictPSS(jwt.SigningMethodPS256),
	config.PS384: strictPSS(jwt.SigningMethodPS384),
	config.PS512: strictPSS(jwt.SigningMethodPS512),
	config.RS256: jwt.SigningMethodRS256,
	config.EdDSA: jwt.SigningMethodEdDSA,
}

// strictPSS returns m with a salt as long as the hash, as RFC 7518 section 3.5 requires; m itself
// verifies any salt length.
func strictPSS(m *jwt.SigningMethodRSAPSS) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{SigningMethodRSA: m.SigningMethodRSA, Options: m.Options}
}

var errNoMethod = errors.New("algorithm not supported")

// verifyingKey returns the key of set that verifies t's signature.
func verifyingKey(t *JWS, set *Set) (*key, error) {
	candidates := set.candidates(t)
	if len(candidates) == 0 {
		return nil, access.Denyf(access.UnknownKey, "no key for alg %s and kid %q", t.Algorithm, access.Truncate(t.KeyID))
	}
	signature, err := segmentEncoding.DecodeString(t.signature)
	if err != nil {
		return nil, access.Denyf(access.MalformedToken, "reading signature: %w", err)
	}
	method := signingMethods[config.Algorithm(t.Algorithm)]
	if method == nil {
		return nil, &access.Denial{Reason: access.UnsupportedAlgorithm, Err: errNoMethod}
	}
	for _, k := range candidates {
		if err = method.Verify(t.signed, signature, k.public); err == nil {
			return k, nil
		}
	}
	return nil, access.Denyf(access.BadSignature, "verifying signature: %w", err)
}

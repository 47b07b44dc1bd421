package jwks

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/ascii"
)

// unknownKeyWait bounds how long a request with an unknown key waits for a refresh. Most servers
// respond in a tenth of this time. A client with made-up keys delays only its own requests.
const unknownKeyWait = 500 * time.Millisecond

// Verify checks that the typ of t is in types (media types as [MediaTypes] returns them) and that t has
// a valid signature by a key of s. It returns the key set and the key's fingerprint. If the key set
// lacks the key that t names, Verify requests a refresh and waits for the refresh up to half a second
// or until ctx ends. There is at most one refresh in each cool-down. Every error wraps an
// [access.Denial].
func (s *Source) Verify(ctx context.Context, t *JWS, types []string, now time.Time) (*Set, Fingerprint, error) {
	if !Accepts(s.algorithms, config.Algorithm(t.Algorithm)) {
		return nil, Fingerprint{}, mismatch(access.UnsupportedAlgorithm, "alg", s.algorithms, strconv.Quote(access.Truncate(t.Algorithm)))
	}
	if !slices.ContainsFunc(types, t.isType) {
		return nil, Fingerprint{}, mismatch(access.WrongType, "typ", types, t.quotedType())
	}
	set, err := s.Usable(now)
	if err != nil {
		return nil, Fingerprint{}, s.unavailable(err)
	}
	k, err := verifyingKey(t, set)
	if err != nil && t.NamesKey && !set.hasKeyID(t.KeyID) {
		if set, err = s.refreshForUnknownKey(ctx, t, set, now, err); err == nil {
			k, err = verifyingKey(t, set)
		}
	}
	if err != nil {
		return nil, Fingerprint{}, err
	}
	return set, k.fingerprint, nil
}

func (s *Source) unavailable(err error) error {
	return access.Denyf(access.IssuerUnavailable, "key set of %s: %w", s.server, err)
}

var errRefreshTimeout = errors.New("the refresh for an unknown key takes too long")

// refreshForUnknownKey requests a refresh because the key set old lacks t's key, and returns the newer
// key set. If a refresh has ended since the caller read old, it returns the key set of that refresh. It
// returns the error refused if the cool-down forbids a refresh or the refresh found no newer key set.
// It returns a Denial with IssuerUnavailable if the refresh failed or took too long.
func (s *Source) refreshForUnknownKey(ctx context.Context, t *JWS, old *Set, now time.Time, refused error) (*Set, error) {
	pending, granted, failed := s.requests.request(now)
	s.metrics.countUnknownKey(pending != nil, granted)
	newer := s.Latest()
	switch {
	case pending == nil && newer != old: // a refresh ended after the caller had read old
		return newer, nil
	case pending == nil && failed:
		return nil, s.unavailable(fmt.Errorf("the last refresh failed, and the previous key set has no key with kid %q", access.Truncate(t.KeyID)))
	case pending == nil:
		return nil, refused
	}
	timer := time.NewTimer(unknownKeyWait)
	defer timer.Stop()
	select {
	case <-pending.done:
	case <-timer.C:
		return nil, s.unavailable(errRefreshTimeout)
	case <-ctx.Done():
		return nil, s.unavailable(context.Cause(ctx))
	}
	if pending.err != nil {
		return nil, s.unavailable(errors.New("the refresh for an unknown key failed"))
	}
	if newer = s.Latest(); newer == old {
		return nil, refused
	}
	return newer, nil
}

// isType reports whether t's typ is the type accepted, a media type without "application/", or
// [config.NoType] for a JWS without typ. The case of media types is ignored (RFC 7515 section 4.1.9 and
// RFC 9068 section 4).
func (t *JWS) isType(accepted string) bool {
	if accepted == config.NoType || !t.NamesType {
		return accepted == config.NoType && !t.NamesType
	}
	return ascii.EqualFold(shortMediaType(t.Type), accepted)
}

// IsAccessTokenType reports whether t's typ marks an access token (RFC 9068 section 4).
func (t *JWS) IsAccessTokenType() bool { return ascii.EqualFold(shortMediaType(t.Type), "at+jwt") }

// quotedType returns t's typ for the log.
func (t *JWS) quotedType() string {
	if !t.NamesType {
		return config.NoType
	}
	return strconv.Quote(access.Truncate(t.Type))
}

// MediaTypes returns types without the prefix "application/", which a typ may omit.
func MediaTypes(types ...string) []string {
	short := make([]string, len(types))
	for i, t := range types {
		short[i] = shortMediaType(t)
	}
	return short
}

// shortMediaType returns t without "application/", which RFC 7515 section 4.1.9 allows a typ to
// omit if no other slash follows.
func shortMediaType(t string) string {
	const prefix = "application/"
	if len(t) > len(prefix) && ascii.EqualFold(t[:len(prefix)], prefix) && !strings.Contains(t[len(prefix):], "/") {
		return t[len(prefix):]
	}
	return t
}

// signingMethods are the supported algorithms. No configuration and no token can add an algorithm.
var signingMethods = map[config.Algorithm]jwt.SigningMethod{
	config.ES256:   jwt.SigningMethodES256,
	config.ES384:   jwt.SigningMethodES384,
	config.ES512:   jwt.SigningMethodES512,
	config.PS256:   strictPSS(jwt.SigningMethodPS256),
	config.PS384:   strictPSS(jwt.SigningMethodPS384),
	config.PS512:   strictPSS(jwt.SigningMethodPS512),
	config.RS256:   jwt.SigningMethodRS256,
	config.RS384:   jwt.SigningMethodRS384,
	config.RS512:   jwt.SigningMethodRS512,
	config.EdDSA:   jwt.SigningMethodEdDSA,
	config.Ed25519: jwt.SigningMethodEdDSA,
}

// strictPSS returns m with the condition that the salt is as long as the hash (RFC 7518 section 3.5). m
// itself accepts any salt length.
func strictPSS(m *jwt.SigningMethodRSAPSS) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{SigningMethodRSA: m.SigningMethodRSA, Options: m.Options}
}

// VerifyWith returns nil if t has a valid signature by public, with an algorithm that fits the key. The
// caller must check that it accepts the algorithm and trusts the key.
func (t *JWS) VerifyWith(public crypto.PublicKey) error {
	method := signingMethods[config.Algorithm(t.Algorithm)]
	if method == nil || !slices.Contains(algorithmsFor(public), config.Algorithm(t.Algorithm)) {
		return fmt.Errorf("alg %q does not fit the key", access.Truncate(t.Algorithm))
	}
	signature, err := segmentEncoding.DecodeString(t.signature)
	if err != nil {
		return fmt.Errorf("reading signature: %w", err)
	}
	if err := method.Verify(t.signed, signature, public); err != nil {
		return fmt.Errorf("verifying signature: %w", err)
	}
	return nil
}

var errNoMethod = errors.New("algorithm not supported")

// verifyingKey returns the key of set that verifies t's signature.
func verifyingKey(t *JWS, set *Set) (*key, error) {
	candidates := set.candidates(t)
	if len(candidates) == 0 {
		return nil, access.Denyf(access.UnknownKey, "no key for alg %s and kid %q; %s", t.Algorithm, access.Truncate(t.KeyID), set.described)
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

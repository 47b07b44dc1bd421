package jwks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// patience bounds how long a request waits for a reading that its unknown key asked
// for: most servers answer in a tenth of it, and whoever sends made-up keys holds
// nothing but his own connection meanwhile.
const unknownKeyWait = 500 * time.Millisecond

// Verify checks that t is of one of types (media types as [MediaTypes] returns them) and
// signed by a key of s, and returns the key set that has the key, and which it is. When
// t names a key that nobody knows, the key set is read again, once in a cool-down, and
// Verify waits for that up to half a second or until ctx ends. Every error wraps an
// [access.Denial].
func (s *Source) Verify(ctx context.Context, t *JWS, types []string, now time.Time) (*Set, Fingerprint, error) {
	if !slices.Contains(s.algorithms, config.Algorithm(t.Algorithm)) {
		return nil, Fingerprint{}, mismatch(access.UnsupportedAlgorithm, "alg", s.algorithms, t.Algorithm)
	}
	if !slices.ContainsFunc(types, t.isType) {
		return nil, Fingerprint{}, mismatch(access.WrongType, "typ", types, t.Type)
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

var errRefreshTimeout = errors.New("a reading for an unknown key takes too long")

// consult asks for a newer key set than old, in which t's key is not, for the reason
// refused. It returns one, or why there is none: refused, when the key set was read too
// recently to be read again, or the denial of a gate that cannot tell.
func (s *Source) refreshForUnknownKey(ctx context.Context, t *JWS, old *Set, now time.Time, refused error) (*Set, error) {
	running, granted, failed := s.requests.request(now)
	s.metrics.countUnknownKey(running != nil, granted)
	switch {
	case running == nil && failed:
		return nil, s.unavailable(fmt.Errorf("the last reading failed, and no key of the one before has kid %q", access.Truncate(t.KeyID)))
	case running == nil:
		return nil, refused
	}
	timer := time.NewTimer(unknownKeyWait)
	defer timer.Stop()
	select {
	case <-running.done:
	case <-timer.C:
		return nil, s.unavailable(errRefreshTimeout)
	case <-ctx.Done():
		return nil, s.unavailable(context.Cause(ctx))
	}
	if running.err != nil {
		return nil, s.unavailable(errors.New("a reading for an unknown key failed"))
	}
	newer := s.Latest()
	if newer == old {
		return nil, refused
	}
	return newer, nil
}

// isType reports whether t's typ is accepted, a media type without "application/".
// Media types are compared without regard to case, RFC 7515 section 4.1.9 and RFC
// 9068 section 4.
func (t *JWS) isType(accepted string) bool {
	return equalASCIIFold(shortMediaType(t.Type), accepted)
}

// MediaTypes returns types without "application/", which a typ may leave out.
func MediaTypes(types ...string) []string {
	short := make([]string, len(types))
	for i, t := range types {
		short[i] = shortMediaType(t)
	}
	return short
}

// shortMediaType returns t without "application/", which RFC 7515 section 4.1.9
// lets a typ leave out when no other slash follows.
func shortMediaType(t string) string {
	const prefix = "application/"
	if len(t) > len(prefix) && equalASCIIFold(t[:len(prefix)], prefix) && !strings.Contains(t[len(prefix):], "/") {
		return t[len(prefix):]
	}
	return t
}

// equalASCIIFold compares s with t, which is ASCII, without regard to case. The
// letters outside ASCII that Unicode folds into it are longer, hence the lengths.
func equalASCIIFold(s, t string) bool { return len(s) == len(t) && strings.EqualFold(s, t) }

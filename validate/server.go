package validate

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A server is an authorization server whose tokens are taken. Its keys and its
// cache are its own: no other server's token is ever verified with them.
type server struct {
	name       string
	issuer     string
	audiences  []string
	algorithms []config.Algorithm
	types      []string // without "application/"
	leeway     time.Duration
	parser     *jwt.Parser
	keys       *keySource
	cache      *cache
}

// A fact is what a verified token says, and which key vouched for it.
type fact struct {
	token access.Unchecked
	key   fingerprint
}

// A fingerprint names a key, its kid and the algorithms that it may be used with.
type fingerprint [sha256.Size]byte

// newParser returns a verifier of signatures by algorithms. The claims are not its
// business: one function of ours judges them, the same for a token that is new and
// for one that is remembered.
func newParser(algorithms []config.Algorithm) *jwt.Parser {
	methods := make([]string, len(algorithms)) // never nil, which would allow all
	for i, a := range algorithms {
		methods[i] = string(a)
	}
	return jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
}

// unread stands in for the claims where the jwt package would decode them: it
// takes the last of two members with one name and ignores case, so what it
// believes to have read must not count.
type unread struct{ jwt.RegisteredClaims }

// UnmarshalJSON ignores its argument.
func (*unread) UnmarshalJSON([]byte) error { return nil }

// verify checks that t is of an accepted type and signed by a key of s, and
// returns what it says and the key set that has the key.
func (s *server) verify(t *token, now time.Time) (*keySet, *fact, error) {
	if !slices.Contains(s.algorithms, config.Algorithm(t.algorithm)) {
		return nil, nil, deny(access.UnsupportedAlgorithm, "alg %q", access.Clip(t.algorithm))
	}
	if !slices.ContainsFunc(s.types, t.isType) {
		return nil, nil, deny(access.WrongType, "typ %q", access.Clip(t.mediaType))
	}
	set, err := s.keys.usable(now)
	if err != nil {
		return nil, nil, deny(access.IssuerUnavailable, "key set of %s: %w", s.name, err)
	}
	candidates := set.find(t)
	if len(candidates) == 0 {
		if t.namesKey && !set.knows(t.keyID) {
			s.keys.ask(now)
		}
		return nil, nil, deny(access.UnknownKey, "no key for alg %s and kid %q", t.algorithm, access.Clip(t.keyID))
	}
	k, err := s.signer(t, candidates)
	if err != nil {
		return nil, nil, err
	}
	facts, err := t.facts(s.name)
	if err != nil {
		return nil, nil, err
	}
	return set, &fact{token: facts, key: k.fingerprint}, nil
}

// signer returns the key among candidates that made t's signature.
func (s *server) signer(t *token, candidates []*key) (*key, error) {
	var err error
	for _, k := range candidates {
		// The token that is returned beside an error is never looked at
		// (CVE-2024-51744).
		_, err = s.parser.ParseWithClaims(t.raw, &unread{}, func(*jwt.Token) (any, error) { return k.public, nil })
		if err == nil {
			return k, nil
		}
	}
	if errors.Is(err, jwt.ErrTokenMalformed) {
		return nil, deny(access.MalformedToken, "reading signature: %w", err)
	}
	return nil, deny(access.BadSignature, "verifying signature: %w", err)
}

// isType reports whether t's typ is accepted, a media type without "application/".
// Media types are compared without regard to case, RFC 7515 section 4.1.9 and RFC
// 9068 section 4.
func (t *token) isType(accepted string) bool {
	return equalASCIIFold(shortMediaType(t.mediaType), accepted)
}

// mediaTypes returns types without "application/".
func mediaTypes(types []string) []string {
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

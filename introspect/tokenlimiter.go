package introspect

import (
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/tallygate/tallygate/access"
)

var errTooManyUnknown = errors.New("with this certificate, or with others of its authority, came too many tokens that are inactive or refused")

// How many tokens that turn out not to be active may be asked about, each second and at
// once. One that is inactive is not asked about again for a while, so that it takes a
// client that makes tokens up, or sends those of others, to come near: good ones are not
// counted. All certificates
// of one authority together have ten times what one has.
const (
	unknownTokenRate  = 20
	unknownTokenBurst = 200
	authorityFactor   = 10
	// rememberedHolders bounds the holders that are told apart. One takes about 200
	// bytes, so 16,384 of them 3 MiB. One that is forgotten starts anew, within the
	// rate of its authority.
	maxLimiters = 16 << 10
)

// strangers count what came of the tokens that each holder showed. They are safe for
// concurrent use.
type unknownTokenLimiter struct {
	certificates *lru.Cache[access.Thumbprint, *rate.Limiter]
	authorities  *lru.Cache[access.AnchorKey, *rate.Limiter]
}

func newUnknownTokenLimiter() (unknownTokenLimiter, error) {
	holders, err := lru.New[access.Thumbprint, *rate.Limiter](maxLimiters)
	if err != nil {
		return unknownTokenLimiter{}, fmt.Errorf("making the cache of holders: %w", err)
	}
	authorities, err := lru.New[access.AnchorKey, *rate.Limiter](maxLimiters)
	if err != nil {
		return unknownTokenLimiter{}, fmt.Errorf("making the cache of authorities: %w", err)
	}
	return unknownTokenLimiter{holders, authorities}, nil
}

// admit returns nil when a token that cert's holder shows may be asked about.
func (s unknownTokenLimiter) allow(cert *access.Certificate, now time.Time) error {
	for _, l := range s.limits(cert) {
		if l != nil && l.TokensAt(now) < 1 {
			return &access.Denial{Reason: access.RateLimited, Err: errTooManyUnknown}
		}
	}
	return nil
}

// limits returns what is known of cert's holder and of its authority, nil for nothing.
func (s unknownTokenLimiter) limits(cert *access.Certificate) [2]*rate.Limiter {
	holder, _ := s.certificates.Get(cert.Thumbprint)
	authority, _ := s.authorities.Get(authorityOf(cert))
	return [2]*rate.Limiter{holder, authority}
}

// count takes note that a token that cert's holder showed was turned down.
func (s unknownTokenLimiter) record(cert *access.Certificate, now time.Time) {
	holder := rate.NewLimiter(unknownTokenRate, unknownTokenBurst)
	if known, ok, _ := s.certificates.PeekOrAdd(cert.Thumbprint, holder); ok {
		holder = known
	}
	authority := rate.NewLimiter(authorityFactor*unknownTokenRate, authorityFactor*unknownTokenBurst)
	if known, ok, _ := s.authorities.PeekOrAdd(authorityOf(cert), authority); ok {
		authority = known
	}
	holder.AllowN(now, 1)
	authority.AllowN(now, 1)
}

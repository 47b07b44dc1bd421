package introspect

import (
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/tallygate/tallygate/access"
)

var errTooManyUnknown = errors.New("too many inactive or refused tokens from this client certificate or its issuing authority")

// The limits of inactive or refused tokens for each certificate: tokens per second, and burst.
// Inactive tokens are cached, so only clients that make up or steal tokens reach these limits;
// granted tokens do not count. All certificates of an authority together have ten times the limits of
// one certificate.
const (
	unknownTokenRate  = 20
	unknownTokenBurst = 200
	authorityFactor   = 10
	// maxLimiters bounds the certificates, and the authorities, that are counted separately. An entry
	// has about 200 bytes, so 16,384 entries take 3 MiB. The count of an evicted certificate starts
	// at zero, within the limit of its authority.
	maxLimiters = 16 << 10
)

// An unknownTokenLimiter counts the inactive or refused tokens of each certificate. It is safe
// for concurrent use.
type unknownTokenLimiter struct {
	certificates *lru.Cache[access.Thumbprint, *rate.Limiter]
	authorities  *lru.Cache[access.AnchorKey, *rate.Limiter]
}

func newUnknownTokenLimiter() (unknownTokenLimiter, error) {
	certificates, err := lru.New[access.Thumbprint, *rate.Limiter](maxLimiters)
	if err != nil {
		return unknownTokenLimiter{}, fmt.Errorf("making the cache of certificates: %w", err)
	}
	authorities, err := lru.New[access.AnchorKey, *rate.Limiter](maxLimiters)
	if err != nil {
		return unknownTokenLimiter{}, fmt.Errorf("making the cache of authorities: %w", err)
	}
	return unknownTokenLimiter{certificates, authorities}, nil
}

// allow returns nil if a token that came with cert may be introspected.
func (l unknownTokenLimiter) allow(cert *access.Certificate, now time.Time) error {
	for _, limiter := range l.limits(cert) {
		if limiter != nil && limiter.TokensAt(now) < 1 {
			return &access.Denial{Reason: access.RateLimited, Err: errTooManyUnknown}
		}
	}
	return nil
}

// limits returns the limiters of cert and of its authority. A limiter is nil if no token of the
// certificate or authority was counted.
func (l unknownTokenLimiter) limits(cert *access.Certificate) [2]*rate.Limiter {
	own, _ := l.certificates.Get(cert.Thumbprint)
	authority, _ := l.authorities.Get(authorityOf(cert))
	return [2]*rate.Limiter{own, authority}
}

// record counts an inactive or refused token that came with cert.
func (l unknownTokenLimiter) record(cert *access.Certificate, now time.Time) {
	own := rate.NewLimiter(unknownTokenRate, unknownTokenBurst)
	if known, ok, _ := l.certificates.PeekOrAdd(cert.Thumbprint, own); ok {
		own = known
	}
	authority := rate.NewLimiter(authorityFactor*unknownTokenRate, authorityFactor*unknownTokenBurst)
	if known, ok, _ := l.authorities.PeekOrAdd(authorityOf(cert), authority); ok {
		authority = known
	}
	own.AllowN(now, 1)
	authority.AllowN(now, 1)
}

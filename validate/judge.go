package validate

import (
	"fmt"
	"slices"
	"time"

	"github.com/tallygate/tallygate/access"
)

// judge decides whether a token that says u may pass now, with cert. It runs on
// every request, whether u was just verified or remembered. set is the key set of
// this moment, which has the key that vouched for u. This is the one place that
// makes Claims.
func (v *Validator) judge(s *server, set *keySet, u *access.Unchecked, cert *access.Certificate, now time.Time) (access.Claims, error) {
	reason, err := s.checkClaims(set, u, now)
	if reason == access.Granted && v.revoked != nil && v.revoked(*u) {
		reason = access.Revoked
	}
	if reason == access.Granted {
		reason, err = checkBinding(u.Confirmation, cert)
	}
	if reason != access.Granted {
		return access.Claims{}, &access.Denial{Reason: reason, ClientID: u.ClientID, Err: err}
	}
	return access.Claims(*u), nil
}

// checkClaims returns [access.Granted] when set is fresh enough to rely on and u
// is valid at now and meant for us, and otherwise why not.
func (s *server) checkClaims(set *keySet, u *access.Unchecked, now time.Time) (access.Reason, error) {
	early := now.Add(s.leeway) // the furthest that a clock ahead of ours may show
	switch {
	case s.keys.stale(set, now):
		return access.IssuerUnavailable, errStale
	case s.expired(u, now):
		return access.Expired, fmt.Errorf("expired at %s", u.Expires.UTC().Format(time.RFC3339))
	case early.Before(u.NotBefore):
		return access.NotYetValid, fmt.Errorf("not before %s", u.NotBefore.UTC().Format(time.RFC3339))
	case early.Before(u.IssuedAt):
		return access.NotYetValid, fmt.Errorf("issued at %s", u.IssuedAt.UTC().Format(time.RFC3339))
	case !slices.ContainsFunc(u.Audience, s.isAudience):
		return access.WrongAudience, nil
	default:
		return access.Granted, nil
	}
}

// expired reports whether u is over: it is valid while now < exp + leeway, RFC
// 7519 section 4.1.4.
func (s *server) expired(u *access.Unchecked, now time.Time) bool {
	return !now.Before(u.Expires.Add(s.leeway))
}

// isAudience reports whether a names us, byte for byte, RFC 9068 section 4.
func (s *server) isAudience(a string) bool { return slices.Contains(s.audiences, a) }

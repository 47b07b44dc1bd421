package validate

import (
	"fmt"
	"slices"
	"time"

	"github.com/tallygate/tallygate/access"
)

// judge decides whether a token that says u, which s vouches for, may pass now. It runs
// on every request, whether u was just found out or remembered. This is the one place
// that makes Claims.
func (v *Validator) judge(s *server, u *access.Unchecked, q *question) (access.Claims, error) {
	reason, err := s.checkClaims(u, q.now)
	if reason == access.Granted && v.revoked != nil && v.revoked(*u) {
		reason = access.Revoked
	}
	if reason == access.Granted {
		reason, err = checkBinding(u.Confirmation, q.cert)
	}
	if reason != access.Granted {
		return access.Claims{}, &access.Denial{Reason: reason, ClientID: u.ClientID, Err: err}
	}
	if s.alsoIntrospect && q.kind == signed {
		if u, err = s.confirm(u, q); err != nil {
			return access.Claims{}, err
		}
	}
	return access.Claims(*u), nil
}

// checkClaims returns [access.Granted] when u comes from s, is valid at now and meant
// for us, and otherwise why not.
func (s *server) checkClaims(u *access.Unchecked, now time.Time) (access.Reason, error) {
	if u.Issuer != s.issuer {
		return access.UnknownIssuer, fmt.Errorf("%s says that it comes from %q", s.name, access.Clip(u.Issuer))
	}
	if reason, err := s.checkTimes(u, now); reason != access.Granted {
		return reason, err
	}
	if !slices.ContainsFunc(u.Audience, s.isAudience) {
		return access.WrongAudience, nil
	}
	return access.Granted, nil
}

// checkTimes returns [access.Granted] when u is valid at now.
func (s *server) checkTimes(u *access.Unchecked, now time.Time) (access.Reason, error) {
	early := now.Add(s.leeway) // the furthest that a clock ahead of ours may show
	switch {
	case s.expired(u, now):
		return access.Expired, fmt.Errorf("expired at %s", u.Expires.UTC().Format(time.RFC3339))
	case early.Before(u.NotBefore):
		return access.NotYetValid, fmt.Errorf("not before %s", u.NotBefore.UTC().Format(time.RFC3339))
	case early.Before(u.IssuedAt):
		return access.NotYetValid, fmt.Errorf("issued at %s", u.IssuedAt.UTC().Format(time.RFC3339))
	}
	return access.Granted, nil
}

// expired reports whether u is over: it is valid while now < exp + leeway, RFC
// 7519 section 4.1.4.
func (s *server) expired(u *access.Unchecked, now time.Time) bool {
	return !now.Before(u.Expires.Add(s.leeway))
}

// isAudience reports whether a names us, byte for byte, RFC 9068 section 4.
func (s *server) isAudience(a string) bool { return slices.Contains(s.audiences, a) }

package validate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
)

// judge decides whether a token that says u, which s vouches for, may pass now. It runs
// on every request, whether u was just found out or remembered. This is the one place
// that makes Claims.
func (v *Validator) checkToken(s *server, u *access.Unchecked, q *validation) (access.Claims, error) {
	q.server = s
	reason, err := v.checkClaimsAndBinding(s, u, q.cert, q.now)
	if reason != access.Granted {
		return access.Claims{}, &access.Denial{Reason: reason, ClientID: u.ClientID, Err: err}
	}
	if s.alsoIntrospect && q.kind == signed {
		said := u
		if u, err = v.crossCheck(s, u, q); err != nil {
			return access.Claims{}, err
		}
		if u != said && v.revoked != nil && v.revoked(*u) { // by the client that the answer names
			return access.Claims{}, &access.Denial{Reason: access.Revoked, ClientID: u.ClientID}
		}
	}
	return access.Claims(*u), nil
}

// check returns [access.Granted] when a token that says u may pass at now with cert, as far
// as that depends on what it says, and otherwise why not.
func (v *Validator) checkClaimsAndBinding(s *server, u *access.Unchecked, cert *access.Certificate, now time.Time) (access.Reason, error) {
	if reason, err := s.checkClaims(u, now); reason != access.Granted {
		return reason, err
	}
	if v.revoked != nil && v.revoked(*u) {
		return access.Revoked, nil
	}
	return checkBinding(u.Confirmation, cert)
}

// checkClaims returns [access.Granted] when u comes from s, is valid at now and meant
// for us, and otherwise why not.
func (s *server) checkClaims(u *access.Unchecked, now time.Time) (access.Reason, error) {
	if u.Issuer != s.issuer {
		return access.UnknownIssuer, &access.Mismatch{Name: "iss", Want: s.issuer, Got: quoted(u.Issuer)}
	}
	if reason, err := s.checkTimes(u, now); reason != access.Granted {
		return reason, err
	}
	if !slices.ContainsFunc(u.Audience, s.isAudience) {
		return access.WrongAudience, &access.Mismatch{Name: "aud", Want: strings.Join(s.audiences, " or "), Got: quoted(u.Audience...)}
	}
	return access.Granted, nil
}

// quoted returns what a token says in a form for the log.
func quoted(said ...string) string {
	if len(said) == 0 {
		return "none"
	}
	return access.Truncate(fmt.Sprintf("%q", said))
}

// checkTimes returns [access.Granted] when u is valid at now.
func (s *server) checkTimes(u *access.Unchecked, now time.Time) (access.Reason, error) {
	early := now.Add(s.leeway) // the furthest that a clock ahead of ours may show
	switch {
	case s.expired(u, now):
		return access.Expired, s.timeMismatch("exp", "after", now, u.Expires)
	case early.Before(u.NotBefore):
		return access.NotYetValid, s.timeMismatch("nbf", "not after", now, u.NotBefore)
	case early.Before(u.IssuedAt):
		return access.NotYetValid, s.timeMismatch("iat", "not after", now, u.IssuedAt)
	}
	return access.Granted, nil
}

// untimely says that a claim's time does not stand as it should to now.
func (s *server) timeMismatch(claim, stands string, now, got time.Time) error {
	return &access.Mismatch{
		Name: claim, Want: fmt.Sprintf("%s %s, give or take %s", stands, now.UTC().Format(time.RFC3339), s.leeway),
		Got: got.UTC().Format(time.RFC3339),
	}
}

// expired reports whether u is over: it is valid while now < exp + leeway, RFC
// 7519 section 4.1.4.
func (s *server) expired(u *access.Unchecked, now time.Time) bool {
	return !now.Before(u.Expires.Add(s.leeway))
}

// isAudience reports whether a names us, byte for byte, RFC 9068 section 4.
func (s *server) isAudience(a string) bool { return slices.Contains(s.audiences, a) }

// confirmationClaim is what a refused binding compares with the thumbprint of the
// certificate that the token came with.
const confirmationClaim = "cnf.x5t#S256"

// checkBinding returns [access.Granted] when c binds a token to cert, RFC 8705
// section 3, and otherwise why it does not.
func checkBinding(c access.Confirmation, cert *access.Certificate) (access.Reason, error) {
	switch {
	case !c.Present:
		return access.NotBound, &access.Mismatch{Name: confirmationClaim, Want: cert.Thumbprint.String(), Got: "no cnf"}
	case c.Thumbprint == access.Thumbprint{}:
		return access.MalformedBinding, &access.Mismatch{Name: confirmationClaim, Want: cert.Thumbprint.String(), Got: "a cnf that is not one well-formed x5t#S256 alone"}
	case !c.Thumbprint.Matches(cert.Thumbprint):
		return access.BoundToOther, &access.Mismatch{Name: confirmationClaim, Want: cert.Thumbprint.String(), Got: c.Thumbprint.String()}
	default:
		return access.Granted, nil
	}
}

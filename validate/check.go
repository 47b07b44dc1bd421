package validate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
)

// checkToken decides whether a token of s with the claims u may pass now. It runs on every
// request, for cached and for new claims. No other function creates access.Claims.
func (v *Validator) checkToken(s *server, u *access.Unchecked, val *validation) (access.Claims, error) {
	val.server = s
	for confirmed := false; !confirmed; {
		reason, introspect, err := v.checkClaimsAndBinding(s, u, &val.presentation)
		if reason != access.Granted {
			return access.Claims{}, &access.Denial{Reason: reason, ClientID: u.ClientID, Err: err}
		}
		checked := u
		if u, err = v.confirm(s, u, val, introspect); err != nil {
			return access.Claims{}, err
		}
		confirmed = u == checked // other claims are checked too: the response may name the client
	}
	if val.Proof != nil {
		if reason, err := s.record(&val.presentation, v.partner(s.name, u.ClientID, val.cert)); reason != access.Granted {
			return access.Claims{}, &access.Denial{Reason: reason, ClientID: u.ClientID, Err: err}
		}
	}
	return access.Claims(*u), nil
}

// checkClaimsAndBinding returns [access.Granted] if the claims u pass all checks and the token is
// bound to the certificate or key in p. Otherwise it returns the reason and the detail of the
// refusal. introspect is the result of checkRevocation.
func (v *Validator) checkClaimsAndBinding(s *server, u *access.Unchecked, p *presentation) (reason access.Reason, introspect bool, err error) {
	if reason, err = s.checkClaims(u, p.now); reason != access.Granted {
		return reason, false, err
	}
	if reason, introspect, err = v.checkRevocation(s, u); reason != access.Granted {
		return reason, false, err
	}
	reason, err = v.checkBinding(s, u, p)
	return reason, introspect, err
}

// checkBinding is [server.checkBinding] for the token with the claims u. It tells a renewed certificate from
// the certificate of another application.
func (v *Validator) checkBinding(s *server, u *access.Unchecked, p *presentation) (access.Reason, error) {
	reason, err := s.checkBinding(u.Confirmation, p)
	if reason == access.BoundToOther && v.renewed != nil && v.renewed(s.name, u.ClientID, u.Confirmation.Thumbprint, p.cert) {
		reason = access.BoundToPrevious
	}
	return reason, err
}

// checkClaims returns [access.Granted] if u comes from s, is valid at now and has one of the audiences
// that are configured for s. Otherwise it returns the reason and the detail of the refusal.
func (s *server) checkClaims(u *access.Unchecked, now time.Time) (access.Reason, error) {
	if reason, err := s.checkIssuer(u); reason != access.Granted {
		return reason, err
	}
	if reason, err := s.checkTimes(u, now); reason != access.Granted {
		return reason, err
	}
	return s.checkAudience(u)
}

// checkIssuer returns [access.Granted] if u comes from s.
func (s *server) checkIssuer(u *access.Unchecked) (access.Reason, error) {
	if u.Issuer != s.issuer {
		return access.UnknownIssuer, &access.Mismatch{Name: "iss", Want: s.issuer, Got: quoted(u.Issuer)}
	}
	return access.Granted, nil
}

// checkAudience returns [access.Granted] if u has one of the audiences that are configured for s.
func (s *server) checkAudience(u *access.Unchecked) (access.Reason, error) {
	if !slices.ContainsFunc(u.Audience, s.isAudience) {
		return access.WrongAudience, &access.Mismatch{Name: "aud", Want: strings.Join(s.audiences, " or "), Got: quoted(u.Audience...)}
	}
	return access.Granted, nil
}

// quoted returns the values of claims in quotes, for the log.
func quoted(values ...string) string {
	if len(values) == 0 {
		return "none"
	}
	return access.Truncate(fmt.Sprintf("%q", values))
}

// checkTimes returns [access.Granted] if u is valid at now.
func (s *server) checkTimes(u *access.Unchecked, now time.Time) (access.Reason, error) {
	latest := now.Add(s.leeway) // the time on a clock that is ahead of the gate's clock by the leeway
	switch {
	case s.expired(u, now):
		return access.Expired, s.timeMismatch("exp", "after", now, u.Expires)
	case latest.Before(u.NotBefore):
		return access.NotYetValid, s.timeMismatch("nbf", "not after", now, u.NotBefore)
	case latest.Before(u.IssuedAt):
		return access.NotYetValid, s.timeMismatch("iat", "not after", now, u.IssuedAt)
	}
	return access.Granted, nil
}

// timeMismatch returns the detail for a time claim. relation says how the claim must relate to now,
// such as before or after.
func (s *server) timeMismatch(claim, relation string, now, got time.Time) error {
	return &access.Mismatch{
		Name: claim, Want: fmt.Sprintf("%s %s with a leeway of %s", relation, now.UTC().Format(time.RFC3339), s.leeway),
		Got: got.UTC().Format(time.RFC3339),
	}
}

// expired reports whether u has expired: a token is valid while now < exp + leeway, RFC 7519
// section 4.1.4.
func (s *server) expired(u *access.Unchecked, now time.Time) bool {
	return !now.Before(u.Expires.Add(s.leeway))
}

// isAudience reports whether a is one of our audiences. Audiences are compared byte for byte, RFC
// 9068 section 4.
func (s *server) isAudience(a string) bool { return slices.Contains(s.audiences, a) }

// confirmationClaim is the claim that is compared with the thumbprint of the certificate.
const confirmationClaim = "cnf.x5t#S256"

// checkBinding returns [access.Granted] if c binds a token of s to the certificate in p (RFC 8705
// section 3), to the key in p (RFC 9449), or to both. Otherwise it returns the reason and the detail
// of the refusal. A token that is bound to a certificate and a key must match both.
func (s *server) checkBinding(c access.Confirmation, p *presentation) (access.Reason, error) {
	none := access.Thumbprint{}
	switch {
	case !c.Present:
		return access.NotBound, &access.Mismatch{Name: confirmationClaim, Want: p.cert.Thumbprint.String(), Got: "no cnf"}
	case c.Thumbprint == none && c.Key == none:
		return access.MalformedBinding, &access.Mismatch{Name: confirmationClaim, Want: p.cert.Thumbprint.String(), Got: "a cnf that is not one well-formed x5t#S256 or jkt, or one of each, alone"}
	case c.Thumbprint != none && !c.Thumbprint.Matches(p.cert.Thumbprint):
		return access.BoundToOther, &access.Mismatch{Name: confirmationClaim, Want: p.cert.Thumbprint.String(), Got: c.Thumbprint.String()}
	}
	return s.checkKey(c.Key, p)
}

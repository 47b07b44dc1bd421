package validate

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/introspect"
)

// confirm asks s about a JWT of its own that passed every check, and returns what then
// counts: the server may have revoked it, may have taken scopes away, and may name the
// client and the subject that the JWT leaves out. What the server says of the token must
// not contradict the token, above all not its binding (RFC 8705 section 3.2). Only a token
// that would pass is asked about. Errors are an [access.Denial].
func (v *Validator) crossCheck(s *server, u *access.Unchecked, q *validation) (*access.Unchecked, error) {
	answer := s.introspector.Lookup(q.raw, q.sum)
	if answer == nil {
		q.source = remote
		var err error
		if answer, err = s.introspector.Introspect(q.ctx, q.raw, q.sum, q.cert, v.crossCheckOwner(s, u, q.cert, q.now)); err != nil {
			d := access.DecisionOf(err)
			return nil, &access.Denial{Reason: d.Reason, ClientID: u.ClientID, Err: d.Err}
		}
	}
	reason, err := s.checkResponse(u, answer, q.cert, q.now)
	if reason != access.Granted {
		return nil, &access.Denial{Reason: reason, ClientID: u.ClientID, Err: err}
	}
	return merge(u, answer), nil
}

// complete returns u with what it lacks of answer, which does not contradict it, and
// without the scopes that answer no longer has. u itself, which may be remembered, stays as
// it is.
func merge(u, answer *access.Unchecked) *access.Unchecked {
	scopes := u.Scopes
	lost := func(scope string) bool { return !slices.Contains(answer.Scopes, scope) }
	if answer.Scopes != nil && slices.ContainsFunc(scopes, lost) { // a server need not name scopes, RFC 7662 section 2.2
		scopes = slices.DeleteFunc(slices.Clone(scopes), lost)
	}
	lacks := u.ClientID == "" && answer.ClientID != "" || u.Subject == "" && answer.Subject != "" || u.TokenID == "" && answer.TokenID != ""
	if !lacks && len(scopes) == len(u.Scopes) {
		return u
	}
	completed := *u
	completed.Scopes = scopes
	completed.ClientID = cmp.Or(u.ClientID, answer.ClientID)
	completed.Subject = cmp.Or(u.Subject, answer.Subject)
	completed.TokenID = cmp.Or(u.TokenID, answer.TokenID)
	return &completed
}

// confirmedOwner returns a function that tells in which partner's share an answer about a
// JWT that says u is remembered: "" where the answer refuses the token.
func (v *Validator) crossCheckOwner(s *server, u *access.Unchecked, cert *access.Certificate, now time.Time) introspect.Owner {
	return func(answer *access.Unchecked) string {
		if reason, _ := s.checkResponse(u, answer, cert, now); reason != access.Granted {
			return ""
		}
		return v.partner(s.name, cmp.Or(u.ClientID, answer.ClientID), cert)
	}
}

var errTokenID = errors.New("jti by introspection is not the token's")

// checkAnswer returns [access.Granted] when answer is valid now and agrees with the token
// that says u.
func (s *server) checkResponse(u, answer *access.Unchecked, cert *access.Certificate, now time.Time) (access.Reason, error) {
	if reason, err := s.checkTimes(answer, now); reason != access.Granted {
		return reason, err
	}
	for _, claim := range []struct{ name, token, answer string }{
		{"iss", u.Issuer, answer.Issuer},
		{"client_id", u.ClientID, answer.ClientID},
		{"sub", u.Subject, answer.Subject},
	} {
		if claim.answer != "" && claim.token != "" && claim.answer != claim.token {
			return access.MalformedToken, &access.Mismatch{Name: claim.name + " by introspection", Want: quoted(claim.token), Got: quoted(claim.answer)}
		}
	}
	if answer.TokenID != "" && u.TokenID != "" && answer.TokenID != u.TokenID {
		return access.MalformedToken, errTokenID // without the values: of a jti only the hash is logged
	}
	if len(answer.Audience) > 0 && !slices.ContainsFunc(answer.Audience, s.isAudience) {
		return access.WrongAudience, &access.Mismatch{Name: "aud by introspection", Want: strings.Join(s.audiences, " or "), Got: quoted(answer.Audience...)}
	}
	if answer.Confirmation.Present {
		return checkBinding(answer.Confirmation, cert)
	}
	return access.Granted, nil
}

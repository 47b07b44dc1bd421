package validate

import (
	"errors"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/access"
)

// confirm asks s about a JWT of its own that passed every check, and returns what then
// counts: the server may have revoked it, and may have taken scopes away. What it says
// of the token must not contradict the token, above all not its binding (RFC 8705
// section 3.2). Only a token that would pass is asked about.
func (s *server) confirm(u *access.Unchecked, q *question) (*access.Unchecked, error) {
	answer := s.resolver.Recall(q.raw, q.sum)
	if answer == nil {
		q.source = remote
		var err error
		if answer, err = s.resolver.Introspect(q.ctx, q.raw, q.sum, q.cert); err != nil {
			d := access.Deny(err)
			return nil, &access.Denial{Reason: d.Reason, ClientID: u.ClientID, Err: d.Err}
		}
	}
	reason, err := s.checkAnswer(u, answer, q)
	if reason != access.Granted {
		return nil, &access.Denial{Reason: reason, ClientID: u.ClientID, Err: err}
	}
	lost := func(scope string) bool { return !slices.Contains(answer.Scopes, scope) }
	if answer.Scopes == nil || !slices.ContainsFunc(u.Scopes, lost) {
		return u, nil // a server need not name scopes, RFC 7662 section 2.2
	}
	narrowed := *u
	narrowed.Scopes = slices.DeleteFunc(slices.Clone(u.Scopes), lost)
	return &narrowed, nil
}

var errTokenID = errors.New("jti by introspection is not the token's")

// checkAnswer returns [access.Granted] when answer is valid now and agrees with the token
// that says u.
func (s *server) checkAnswer(u, answer *access.Unchecked, q *question) (access.Reason, error) {
	if reason, err := s.checkTimes(answer, q.now); reason != access.Granted {
		return reason, err
	}
	for _, claim := range []struct{ name, token, answer string }{
		{"iss", u.Issuer, answer.Issuer},
		{"client_id", u.ClientID, answer.ClientID},
		{"sub", u.Subject, answer.Subject},
	} {
		if claim.answer != "" && claim.answer != claim.token {
			return access.MalformedToken, &access.Mismatch{Of: claim.name + " by introspection", Want: quoted(claim.token), Got: quoted(claim.answer)}
		}
	}
	if answer.TokenID != "" && answer.TokenID != u.TokenID {
		return access.MalformedToken, errTokenID // without the values: of a jti only the hash is logged
	}
	if len(answer.Audience) > 0 && !slices.ContainsFunc(answer.Audience, s.isAudience) {
		return access.WrongAudience, &access.Mismatch{Of: "aud by introspection", Want: strings.Join(s.audiences, " or "), Got: quoted(answer.Audience...)}
	}
	if answer.Confirmation.Present {
		return checkBinding(answer.Confirmation, q.cert)
	}
	return access.Granted, nil
}

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

// crossCheck introspects a JWT that passed every other check, and returns the claims of the JWT
// merged with the claims of the response. The server may have revoked the token or reduced its
// scopes, and the response may name a client and a subject that the JWT lacks. The response must not
// contradict the JWT, above all not the binding of the JWT (RFC 8705 section 3.2). A cached response to a
// request before since is not used. Every error is an [access.Denial].
func (v *Validator) crossCheck(s *server, u *access.Unchecked, val *validation, since time.Time) (*access.Unchecked, error) {
	response, err := s.ask(val, v.crossCheckOwner(s, u, val.presentation), since)
	if err != nil {
		d := access.DecisionOf(err)
		return nil, &access.Denial{Reason: d.Reason, ClientID: u.ClientID, Err: d.Err}
	}
	reason, err := s.checkResponse(u, &response.Claims, &val.presentation)
	if reason != access.Granted {
		return nil, &access.Denial{Reason: reason, ClientID: u.ClientID, Err: err}
	}
	return merge(u, &response.Claims), nil
}

// ask returns a response of s about the token of val, from the cache if there is a cached response to a
// request at since or later.
func (s *server) ask(val *validation, owner introspect.Owner, since time.Time) (response *introspect.Response, err error) {
	if response = s.introspector.Lookup(val.query(since)); response == nil {
		var call Call
		val.source = remote
		response, err = s.introspector.Introspect(val.ctx, val.query(since), val.cert, owner, &call)
		val.Calls.add(call)
	}
	if err == nil {
		val.respondedAt = response.RequestedAt
	}
	return response, err
}

// merge returns u with the client, subject and token identifier of response if u lacks them, and
// without the scopes that are missing in response. It does not change u, which may be cached.
func merge(u, response *access.Unchecked) *access.Unchecked {
	scopes := u.Scopes
	lost := func(scope string) bool { return !slices.Contains(response.Scopes, scope) }
	if response.Scopes != nil && slices.ContainsFunc(scopes, lost) { // scopes are optional in a response, RFC 7662 section 2.2
		scopes = slices.DeleteFunc(slices.Clone(scopes), lost)
	}
	lacks := u.ClientID == "" && response.ClientID != "" || u.Subject == "" && response.Subject != "" || u.TokenID == "" && response.TokenID != ""
	if !lacks && len(scopes) == len(u.Scopes) {
		return u
	}
	completed := *u
	completed.Scopes = scopes
	completed.ClientID = cmp.Or(u.ClientID, response.ClientID)
	completed.Subject = cmp.Or(u.Subject, response.Subject)
	completed.TokenID = cmp.Or(u.TokenID, response.TokenID)
	return &completed
}

// crossCheckOwner returns a function that names the partner for whom the response about a JWT with
// the claims u is cached. The function returns "" if the token is refused because of the response.
func (v *Validator) crossCheckOwner(s *server, u *access.Unchecked, p presentation) introspect.Owner {
	return func(response *access.Unchecked) string {
		if reason, _ := s.checkResponse(u, response, &p); reason != access.Granted {
			return ""
		}
		return v.partner(s.name, cmp.Or(u.ClientID, response.ClientID), p.cert)
	}
}

var errTokenID = errors.New("the jti by introspection differs from the token's jti")

// A Call is a request to an authorization server.
type Call = introspect.Call

// Calls has the calls that a validation made, in their order. A nil Calls has none.
type Calls []Call

// add adds call unless call is zero or c is nil.
func (c *Calls) add(call Call) {
	if c != nil && call.Server != "" {
		*c = append(*c, call)
	}
}

// checkResponse returns [access.Granted] if response is valid now and agrees with the claims u of
// the token.
func (s *server) checkResponse(u, response *access.Unchecked, p *presentation) (access.Reason, error) {
	if reason, err := s.checkTimes(response, p.now); reason != access.Granted {
		return reason, err
	}
	for _, claim := range []struct{ name, token, response string }{
		{"iss", u.Issuer, response.Issuer},
		{"client_id", u.ClientID, response.ClientID},
		{"sub", u.Subject, response.Subject},
	} {
		if claim.response != "" && claim.token != "" && claim.response != claim.token {
			return access.MalformedToken, &access.Mismatch{Name: claim.name + " by introspection", Want: quoted(claim.token), Got: quoted(claim.response)}
		}
	}
	if response.TokenID != "" && u.TokenID != "" && response.TokenID != u.TokenID {
		return access.MalformedToken, errTokenID // without the values, because the log has only hashes of a jti
	}
	if len(response.Audience) > 0 && !slices.ContainsFunc(response.Audience, s.isAudience) {
		return access.WrongAudience, &access.Mismatch{Name: "aud by introspection", Want: strings.Join(s.audiences, " or "), Got: quoted(response.Audience...)}
	}
	if response.Confirmation.Present {
		return s.checkBinding(response.Confirmation, p)
	}
	return access.Granted, nil
}

// introspect asks servers in order about a token until a server knows the token. After a server that
// does not respond, introspect asks the next server. If no server knows the token and at least one
// server did not respond, the error says that the token cannot be checked.
func (v *Validator) introspect(val *validation, servers []*server) (access.Claims, error) {
	val.kind, val.source = opaque, remote
	if val.Proof != nil {
		// The proof is checked before the loop, because the functions of ownerFor may run at the same
		// time as this request.
		_, _ = val.Proof.check(v.dpop, &val.presentation)
	}
	if len(servers) == 1 {
		val.server = servers[0]
	}
	var refused, unavailable error
	for _, s := range servers {
		var call Call
		response, err := s.introspector.Introspect(val.ctx, val.query(time.Time{}), val.cert, v.ownerFor(s, val.presentation), &call)
		val.Calls.add(call)
		switch reason := access.ReasonOf(err); {
		case err == nil:
			val.respondedAt = response.RequestedAt
			return v.checkToken(s, &response.Claims, val)
		case reason == access.MalformedToken: // the server reports the token as active
			val.server = s
			return access.Claims{}, err
		case reason == access.Inactive || reason == access.WrongType:
			if refused == nil || reason == access.WrongType {
				refused = err
			}
		case unavailable == nil:
			unavailable = err
		}
	}
	if unavailable != nil {
		return access.Claims{}, unavailable
	}
	return access.Claims{}, refused
}

// ownerFor returns a function that names the partner for whom a response of s is cached. The response
// is about a token that was presented as p says. The function returns "" if the gate refuses the
// token.
func (v *Validator) ownerFor(s *server, p presentation) introspect.Owner {
	return func(response *access.Unchecked) string {
		if reason, _, _ := v.checkClaimsAndBinding(s, response, &p); reason != access.Granted {
			return ""
		}
		return v.partner(s.name, response.ClientID, p.cert)
	}
}

package validate

import (
	"context"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jwks"
)

// Refusals returns the denials of the token in c, in the order of the checks, and what the token says.
// Where [Validator.Validate] ends with the first denial, Refusals goes on with each check that does
// not depend on a failed check. It is for explanations and grants nothing: the claims of a token
// whose signature does not verify are taken as they are, and no [access.Claims] come of them. cert is
// the certificate that came with the token, accepted or not; without cert, the binding is not checked
// and no server is asked about the token. The claims are nil if they are not known.
func (v *Validator) Refusals(ctx context.Context, c Credentials, cert *access.Certificate) ([]error, *access.Unchecked) {
	val := v.newValidation(ctx, c, cert)
	val.sum = facts.SumOf(val.Token)
	s, u, refused := v.presentedClaims(&val)
	if u == nil {
		return refused, nil
	}
	add := func(reason access.Reason, err error) {
		if reason != access.Granted {
			refused = append(refused, &access.Denial{Reason: reason, Server: s.name, ClientID: u.ClientID, Err: err})
		}
	}
	add(s.checkIssuer(u))
	add(s.checkTimes(u, val.now))
	add(s.checkAudience(u))
	reason, introspect, err := v.checkRevocation(s, u)
	add(reason, err)
	if cert != nil {
		add(v.checkBinding(s, u, &val.presentation))
	}
	if val.kind != signed || !s.alsoIntrospect && !introspect {
		return refused, u
	}
	if cert != nil && len(refused) == 0 {
		completed, err := v.confirm(s, u, &val, introspect)
		if err == nil {
			return nil, completed
		}
		refused = append(refused, withServer(s, err))
	}
	if u.ClientID == "" { // the server would have named the client
		return refused, nil
	}
	return refused, u
}

// presentedClaims returns the server and the claims of the token in val, both nil if they are not
// known, and the denials of the checks before the claims.
func (v *Validator) presentedClaims(val *validation) (*server, *access.Unchecked, []error) {
	switch {
	case len(val.Token) > maxToken:
		return nil, nil, []error{errTooLong()}
	case len(v.opaque) > 0 && !jwks.IsJWS(val.Token):
		return v.introspectedClaims(val, v.opaque)
	}
	t, err := parse(val.Token)
	if err != nil {
		return nil, nil, []error{err}
	}
	s, ok := v.byIssuer[t.issuer]
	switch {
	case !ok:
		return nil, nil, []error{errIssuer(t)}
	case !s.acceptsJWT:
		return v.introspectedClaims(val, []*server{s})
	}
	_, _, noKey := s.keys.Verify(val.ctx, t.JWS, s.types, val.started)
	claims, noClaims := s.mapping.Read(s.name, &t.claims, t.Payload)
	if noClaims == nil {
		noClaims = errNoExpiry(t, claims.ClientID)
	}
	var refused []error
	for _, err := range []error{noKey, s.checkUse(t), noClaims} {
		if err != nil {
			refused = append(refused, withServer(s, err))
		}
	}
	if noClaims != nil {
		return nil, nil, refused
	}
	return s, &claims, refused
}

// introspectedClaims is presentedClaims for a token that servers are asked about.
func (v *Validator) introspectedClaims(val *validation, servers []*server) (*server, *access.Unchecked, []error) {
	if val.cert == nil {
		return nil, nil, nil
	}
	val.kind = opaque
	var refused error
	for _, s := range servers {
		response, err := s.introspector.Introspect(val.ctx, val.query(time.Time{}), val.cert, v.ownerFor(s, val.presentation), nil)
		switch {
		case err == nil:
			return s, &response.Claims, nil
		case refused == nil, access.ReasonOf(err) == access.IssuerUnavailable:
			refused = err
		}
	}
	return nil, nil, []error{refused}
}

package validate

import (
	"time"

	"github.com/tallygate/tallygate/access"
)

// A RevocationStatus is what the gate knows about the revocation of a token.
type RevocationStatus uint8

// The values of [RevocationStatus].
const (
	// RevocationUnknown means that the token may be revoked. It is refused as [access.RevocationsStale].
	RevocationUnknown RevocationStatus = iota
	NotRevoked
	Revoked // refused as [access.Revoked]
	// Introspect means that the token may be revoked, and that its authorization server decides by
	// introspection for this request. A token of a server without introspection is refused as
	// [access.RevocationsStale].
	Introspect
)

// StatusOf returns the status of a token that is revoked, or else not revoked if err is nil. It returns err.
func StatusOf(revoked bool, err error) (RevocationStatus, error) {
	switch {
	case revoked:
		return Revoked, err
	case err != nil:
		return RevocationUnknown, err
	}
	return NotRevoked, nil
}

// checkRevocation returns [access.Granted] if the token of s with the claims u is not revoked. introspect says
// that s must cross-check the token: see [Introspect].
func (v *Validator) checkRevocation(s *server, u *access.Unchecked) (reason access.Reason, introspect bool, err error) {
	if v.revoked == nil {
		return access.Granted, false, nil
	}
	status, err := v.revoked(u)
	switch {
	case status == Revoked:
		return access.Revoked, false, err
	case status == NotRevoked && err == nil:
		return access.Granted, false, nil
	case status == Introspect && s.introspector != nil:
		return access.Granted, true, nil
	}
	return access.RevocationsStale, false, err
}

// confirm has s confirm that a token that passed all checks is active, if this is needed: introspect is the
// result of checkRevocation, and s may have also_introspect. Otherwise it returns u, the claims of the token.
// The result for a JWT is u merged with the claims of the response, and for an opaque token the claims of the
// response. Every error is an [access.Denial].
func (v *Validator) confirm(s *server, u *access.Unchecked, val *validation, introspect bool) (*access.Unchecked, error) {
	var since time.Time
	if introspect {
		since = val.started.Add(-v.within)
	}
	needed := introspect || s.alsoIntrospect && val.kind == signed
	if !needed || !val.respondedAt.IsZero() && !val.respondedAt.Before(since) {
		return u, nil
	}
	if val.kind == signed {
		return v.crossCheck(s, u, val, since)
	}
	response, err := s.ask(val, v.ownerFor(s, val.presentation), since)
	if err != nil {
		return nil, err
	}
	return &response.Claims, nil
}

package proxy

import (
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/policy"
)

// findCaller sets caller, and for a refused request presented. A granted request needs no search, because its
// certificate belongs to the partner of its token.
func (r *accessRecord) findCaller() {
	d := &r.decision
	switch {
	case d.Reason == access.Granted:
		r.caller.Partner = d.Partner
	case r.decided:
		r.presented = r.presentedCertificate()
		r.caller = r.steps.Table.Caller(r.presented)
		if r.caller.Partner == "" && d.Claims.Server != "" { // the binding of the token has been checked, so the caller holds the token
			r.caller = policy.Caller{Partner: d.Partner}
		}
	}
}

// presentedCertificate returns the client certificate of a refused request, even if it was not accepted.
// Without a client certificate, it returns nil. Its anchors are unknown in two cases, because finding them
// needs signature checks: if the gate is overloaded, and if the certificate has expired and the refusal has
// another cause. The chain of an expired certificate is verified for every request, so each malformed request
// would cost signature checks.
func (r *accessRecord) presentedCertificate() *access.Certificate {
	if r.certificate != nil {
		return r.certificate
	}
	leaf, stage := r.steps.Trust.PeerCertificate(r.request), r.decision.Reason.Stage()
	switch {
	case leaf == nil:
		return nil
	case stage == access.StageCertificate, stage != access.StageLimits && time.Now().Before(leaf.NotAfter):
		return r.steps.Trust.Presented(r.request)
	}
	return &access.Certificate{Leaf: leaf, Thumbprint: access.ThumbprintOf(leaf)}
}

// partner returns the name of the caller's partner, or unknownPartner.
func (r *accessRecord) partner() string {
	if r.caller.Partner == "" {
		return unknownPartner
	}
	return r.caller.Partner
}

// parties returns a text for the log that names the holder of the certificate and the owner of the token. It
// returns "" if the reason of the refusal is not that the token is bound to another certificate or key.
func (r *accessRecord) parties() string {
	d, caller := &r.decision, "a certificate of no known partner"
	if r.caller.Partner != "" {
		caller = "partner " + r.caller.Partner
	}
	owner := "a token of no known application"
	if d.Partner != "" {
		owner = "a token of partner " + d.Partner + ", application " + d.ClientID
	}
	switch d.Reason { //nolint:exhaustive // the other reasons do not compare certificate and token
	case access.BoundToPrevious:
		return caller + " showed a token that is bound to an earlier certificate of its application " + d.ClientID + ": a renewal, not a theft"
	case access.BoundToOther, access.BoundToOtherKey:
	default:
		return ""
	}
	switch {
	case d.Partner == "" || d.Partner != r.caller.Partner:
		return caller + " showed " + owner
	case d.Reason == access.BoundToOtherKey:
		return caller + " showed its own token with a proof of another key"
	case r.caller.ClientID == "":
		return caller + " showed its own token, of application " + d.ClientID + ", with a certificate that no application registers: a renewal, or a theft within the partner"
	case r.caller.ClientID == d.ClientID:
		return caller + " showed its own token, which is bound to a certificate that application " + d.ClientID + " does not register"
	}
	return caller + " showed a token of its application " + d.ClientID + " with a certificate of its application " + r.caller.ClientID
}

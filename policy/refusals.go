package policy

import (
	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// Refusals returns the refusals of a request to target, in the order of the checks. Where
// [Table.Decide] ends with the first refusal, Refusals goes on with each check that does not depend on
// a failed check. claims, which may be unverified, are nil if they are not known, and cert is nil
// unless the certificate was accepted: the checks that need them are left out then. known has what
// Refusals found out about the client and the route, with the reason Undecided. Refusals is for
// explanations and grants nothing.
func (t *Table) Refusals(method string, target Target, claims *access.Unchecked, cert *access.Certificate) (refused []access.Decision, known access.Decision) {
	var app *application
	if claims != nil {
		refused, known, app = t.clientRefusals(claims, cert)
	}
	add := func(reason access.Reason, err error) {
		if err != nil {
			refused = append(refused, withRefusal(known, reason, err))
		}
	}
	route, err := t.route(method, target)
	if err != nil {
		add(access.APINotAllowed, err)
		return refused, known
	}
	known.API, known.Route, known.Rule.API, known.Rule.Route = route.api, route.name, route.rule.API, route.rule.Route
	known.WebSocket, known.AnyBody = route.webSocket, route.anyBody
	if app != nil && !app.settings.MayCall(config.Name(route.api), method) {
		add(access.APINotAllowed, errNotGranted)
	}
	if claims == nil {
		return refused, known
	}
	if claims.Confirmation.Present {
		add(access.BindingNotAccepted, checkBinding(route.binding, claims.Confirmation))
	}
	if !route.coveredBy(claims.Scopes) {
		add(access.InsufficientScope, route.errScopes(claims.Scopes))
	}
	return refused, known
}

// clientRefusals returns the refusals that concern the client in claims, and what is known about the client.
// app is the application of the client, or nil if the client is refused as unknown.
func (t *Table) clientRefusals(claims *access.Unchecked, cert *access.Certificate) (refused []access.Decision, known access.Decision, app *application) {
	known.Server, known.ClientID = claims.Server, claims.ClientID
	from, app := t.servers[claims.Server], t.applications[claims.ClientID]
	switch {
	case from == nil:
		return []access.Decision{withRefusal(known, access.UnknownClient, nil)}, known, nil
	case app == nil || claims.ClientID == "":
		return []access.Decision{withRefusal(known, access.UnknownClient, errUnknownClient(claims.ClientID))}, known, nil
	case !from.speaksFor(app.partner.name):
		return []access.Decision{withRefusal(known, access.UnknownClient, errNotSpokenFor(claims.Server, app))}, known, nil
	}
	known.Partner, known.Rule = app.partner.name, app.rule
	if app.partner.disabled {
		refused = append(refused, withRefusal(known, access.PartnerDisabled, nil))
	}
	if cert != nil {
		if err := app.checkCertificate(cert, from); err != nil {
			refused = append(refused, withRefusal(known, certificateReason(err), err))
		}
	}
	return refused, known, app
}

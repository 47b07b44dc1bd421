package authorize

import (
	"net/http"

	"github.com/tallygate/tallygate/access"
)

// Refusals returns the refusals of r, in the order of the checks. Where [Checked.Decide] ends with the
// first refusal, Refusals goes on with each check that does not depend on a failed check. It also
// returns the client certificate if the certificate was accepted. Refusals is for explanations of
// refused requests and grants nothing. It forwards, answers, logs and counts nothing, but may
// introspect the token.
func (checks *Checks) Refusals(r *http.Request) ([]access.Decision, *access.Certificate) {
	var refused []access.Decision
	add := func(err error) {
		if err != nil {
			refused = append(refused, access.DecisionOf(err))
		}
	}
	if hasUnknownVersion(r) {
		add(&access.Denial{Reason: access.MalformedRequest})
	}
	target, noTarget := checks.Table.ParseTarget(r)
	add(noTarget)
	served := noTarget == nil && checks.Table.Serves(target.Host) && checks.connectionServes(r.TLS, target.Host)
	if noTarget == nil && !served {
		add(&access.Denial{Reason: access.Misdirected})
	}
	upgrade := AsksForUpgrade(r)
	if upgrade && !asksForWebSocket(r) {
		add(&access.Denial{Reason: access.UpgradeNotAllowed})
	}
	credentials, noToken := checks.Validator.Credentials(r)
	malformed := noToken != nil && access.ReasonOf(noToken) == access.MalformedRequest
	if malformed {
		add(noToken)
	}
	if _, ok := (&Checked{Checks: checks, Request: r, Upgrade: upgrade}).decidePreflight(target); ok && served {
		return refused, nil
	}
	certificate, noCertificate := checks.Trust.Client(r)
	add(noCertificate)
	if noToken != nil && !malformed {
		add(noToken)
	}

	var claims *access.Unchecked
	if noToken == nil {
		if credentials.Proof != nil && noTarget == nil {
			credentials.Proof.Path = target.Path
		}
		if credentials.Proof != nil && checks.ForwardedHost {
			credentials.Proof.Authority = forwardedHost(r)
		}
		var denials []error
		denials, claims = checks.Validator.Refusals(r.Context(), credentials, checks.presented(r, certificate))
		for _, err := range denials {
			add(err)
		}
	}
	if served {
		found, known := checks.Table.Refusals(r.Method, target, claims, certificate)
		refused = append(refused, found...)
		refused = append(refused, checks.routeRefusal(r, known)...)
	}
	return refused, certificate
}

// presented returns certificate or, if certificate is nil, the certificate of r that was not accepted,
// because the binding of a token can be checked against it too. It returns nil if r has no certificate.
func (checks *Checks) presented(r *http.Request, certificate *access.Certificate) *access.Certificate {
	if certificate != nil {
		return certificate
	}
	leaf := checks.Trust.PeerCertificate(r)
	if leaf == nil {
		return nil
	}
	return access.NewCertificate(leaf)
}

// routeRefusal returns the refusal of checkGranted for r, as a slice of at most one element. known.Route is
// "" if no route matches; then only the check that needs no route is made.
func (checks *Checks) routeRefusal(r *http.Request, known access.Decision) []access.Decision {
	c := Checked{Checks: checks, Request: r, Upgrade: asksForWebSocket(r)}
	known.Reason = access.Granted
	if known.Route == "" { // only the check that needs no route
		known.WebSocket, known.AnyBody = true, true
	}
	c.checkGranted(&known)
	if known.Reason == access.Granted {
		return nil
	}
	return []access.Decision{known}
}

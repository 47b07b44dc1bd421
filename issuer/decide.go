package issuer

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/issuer/rules"
)

// clientCredentials is the one grant type, RFC 6749 section 4.4.
const clientCredentials = "client_credentials"

// A decision is what a token request gets.
type decision struct {
	scopes    []string
	resources []string // aud
	lifetime  time.Duration
	claims    map[string]any
}

// decide judges what c, which is authenticated, asks for: first by what is registered
// for its client, then by the rules. The trace, if it is not nil, gets every rule's
// verdict. The errors are refusals.
func (i *Issuer) decide(c call, trace *rules.Trace) (decision, error) {
	app := c.client.application
	switch grant := c.parameters.get("grant_type"); {
	case grant == "":
		return decision{}, refuse(invalidRequest, "no grant_type")
	case grant != clientCredentials:
		return decision{}, refuse(unsupportedGrantType, "not "+clientCredentials)
	case app == nil:
		return decision{}, refuse(unauthorizedClient, "a resource server gets no tokens")
	}
	scopes, err := app.grantScopes(c.parameters.get("scope"))
	if err != nil {
		return decision{}, err
	}
	resources, err := app.grantResources(c.parameters[resource])
	if err != nil {
		return decision{}, err
	}
	outcome, err := i.policy.Decide(i.governed(c, scopes, resources), trace)
	if err != nil {
		return decision{}, governanceRefusal(err)
	}
	if len(scopes) > 0 && len(outcome.Scopes) == 0 {
		return decision{}, refuse(invalidScope, "the rules dropped every scope")
	}
	d := decision{outcome.Scopes, resources, outcome.Lifetime, app.claims}
	if len(outcome.Claims) > 0 {
		d.claims = maps.Clone(app.claims)
		if d.claims == nil {
			d.claims = make(map[string]any, len(outcome.Claims))
		}
		maps.Copy(d.claims, outcome.Claims)
	}
	return d, nil
}

// governed returns what the rules see of c.
func (i *Issuer) governed(c call, scopes, resources []string) rules.Input {
	in := rules.Input{
		ClientID:       c.client.id,
		Partner:        c.client.partner,
		Authentication: string(c.client.method),
		Scopes:         strings.Fields(c.parameters.get("scope")),
		Resources:      resources,
		Address:        c.address,
		Time:           i.now(),
		Granted:        scopes,
		Lifetime:       c.client.application.lifetime,
		Bound:          c.client.application.bound,
	}
	if c.certificate != nil {
		in.Certificate, in.Thumbprint = c.certificate.Leaf, c.certificate.Thumbprint.String()
	}
	return in
}

// governanceRefusal gives a rule's refusal its answer: the client learns that a rule
// refused, not which.
func governanceRefusal(err error) error {
	var refused *rules.Refusal
	if errors.As(err, &refused) && refused.Level == rules.Scope {
		return &refusal{invalidScope, err}
	}
	return &refusal{accessDenied, err}
}

// grantScopes returns the scopes granted for a scope parameter: those that it names,
// each of which must be registered, or the default when it names none (RFC 6749
// section 3.3). Nothing is narrowed in silence.
func (a *application) grantScopes(parameter string) ([]string, error) {
	if parameter == "" {
		return a.defaults, nil
	}
	var granted []string
	for s := range strings.SplitSeq(parameter, " ") {
		if !slices.Contains(a.scopes, s) {
			return nil, refuse(invalidScope, "a scope is not registered")
		}
		if !slices.Contains(granted, s) {
			granted = append(granted, s)
		}
	}
	return granted, nil
}

// grantResources returns the audience of the token for the resource parameters, each
// of which must be open to a (RFC 8707 section 2), or the default when there are none.
func (a *application) grantResources(parameters []string) ([]string, error) {
	if len(parameters) == 0 {
		if len(a.resources) == 0 {
			return nil, refuse(invalidTarget, "the application may name no resource")
		}
		return a.resources[:1], nil
	}
	var granted []string
	for _, r := range parameters {
		if !slices.Contains(a.resources, r) {
			return nil, refuse(invalidTarget, "a resource is unknown or not open to this client")
		}
		if !slices.Contains(granted, r) {
			granted = append(granted, r)
		}
	}
	return granted, nil
}

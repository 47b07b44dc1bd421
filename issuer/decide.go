package issuer

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/issuer/rules"
)

// clientCredentials is the only grant type that the issuer offers, RFC 6749 section 4.4.
const clientCredentials = "client_credentials"

// A decision is the content of the token for a granted request.
type decision struct {
	scopes    []string
	resources []string // aud
	lifetime  time.Duration
	claims    map[string]any
}

// decide decides about the token request c, whose client is authenticated. It checks the client's
// registration first, and then the rules. If trace is not nil, decide records the verdict of every
// rule in it. Every error is a refusal.
func (i *Issuer) decide(c call, trace *rules.Trace) (decision, error) {
	app := c.client.application
	switch grantType := c.parameters.get("grant_type"); {
	case grantType == "":
		return decision{}, refuse(invalidRequest, "grant_type is missing")
	case grantType != clientCredentials:
		return decision{}, refuse(unsupportedGrantType, "grant_type is not "+clientCredentials)
	case app == nil:
		return decision{}, refuse(unauthorizedClient, "a resource server may not request tokens")
	}
	scopes, err := app.grantScopes(c.parameters.get("scope"))
	if err != nil {
		return decision{}, err
	}
	resources, err := app.grantResources(c.parameters[resource])
	if err != nil {
		return decision{}, err
	}
	outcome, err := i.policy.Decide(i.ruleInput(c, scopes, resources), trace)
	if err != nil {
		return decision{}, ruleRefusal(err)
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

// ruleInput returns the values in c that rules can use.
func (i *Issuer) ruleInput(c call, scopes, resources []string) rules.Input {
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

// ruleRefusal maps a rule's refusal to an error response. The response tells the client that a rule
// refused, and not which rule.
func ruleRefusal(err error) error {
	var refused *rules.Refusal
	if errors.As(err, &refused) && refused.Level == rules.Scope {
		return &refusal{invalidScope, err}
	}
	return &refusal{accessDenied, err}
}

// grantScopes returns the scopes for a scope parameter: the requested scopes, or the default scopes
// if the parameter is empty (RFC 6749 section 3.3). If a requested scope is not registered, it
// returns an error and does not silently grant fewer scopes.
func (a *application) grantScopes(parameter string) ([]string, error) {
	if parameter == "" {
		return a.defaults, nil
	}
	var granted []string
	for s := range strings.SplitSeq(parameter, " ") {
		if !slices.Contains(a.scopes, s) {
			return nil, refuse(invalidScope, "a requested scope is not registered for the client")
		}
		if !slices.Contains(granted, s) {
			granted = append(granted, s)
		}
	}
	return granted, nil
}

// grantResources returns the audience for the resource parameters: the requested resources, or the
// default resource if there are no parameters. Every requested resource must be allowed to a (RFC
// 8707 section 2).
func (a *application) grantResources(parameters []string) ([]string, error) {
	if len(parameters) == 0 {
		if len(a.resources) == 0 {
			return nil, refuse(invalidTarget, "no resource is registered for the application")
		}
		return a.resources[:1], nil
	}
	var granted []string
	for _, r := range parameters {
		if !slices.Contains(a.resources, r) {
			return nil, refuse(invalidTarget, "a requested resource is unknown or not allowed to this client")
		}
		if !slices.Contains(granted, r) {
			granted = append(granted, r)
		}
	}
	return granted, nil
}

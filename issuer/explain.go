package issuer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/issuer/rules"
)

// ExplainRequest is a token request that Explain explains.
type ExplainRequest struct {
	ClientID  string
	Chain     []*x509.Certificate // leaf first; empty for no certificate
	Scope     string              // scopes, separated by spaces
	Resources []string
	Address   netip.Addr
}

// The checks of a token request, in their order.
const (
	CertificateCheck = "certificate" // the certificate itself
	ClientCheck      = "client"      // whether it is the client's
	ScopeCheck       = "scope"
	ResourceCheck    = "resource"
	RulesCheck       = "rules"
)

// An Explanation has the outcome of a token request and the reasons for the outcome.
type Explanation struct {
	Granted bool   `json:"granted"`
	Error   string `json:"error,omitempty"`  // the OAuth error code, as in the response to a client
	Reason  string `json:"reason,omitempty"` // the reason for the operator; never sent to clients
	Check   string `json:"check,omitempty"`  // the check that refused
	// Compared, Expected and Got are set if Check compares two values.
	Compared   string         `json:"-"`
	Expected   string         `json:"-"`
	Got        string         `json:"-"`
	Scopes     []string       `json:"scopes,omitempty"`
	Resources  []string       `json:"resources,omitempty"`
	Lifetime   string         `json:"lifetime,omitempty"`
	Bound      bool           `json:"bound"`
	Claims     map[string]any `json:"claims,omitempty"`
	Governance rules.Trace    `json:"governance"` // empty if the request was refused before the rules
}

// Explain runs the steps of the token endpoint for q and issues no token. It works without Open;
// without Open it knows no revocations.
func (i *Issuer) Explain(ctx context.Context, q ExplainRequest) Explanation {
	c := call{address: q.Address, parameters: form{"grant_type": {clientCredentials}, "client_id": {q.ClientID}}}
	if q.Scope != "" {
		c.parameters["scope"] = []string{q.Scope}
	}
	if len(q.Resources) > 0 {
		c.parameters[resource] = q.Resources
	}
	var out Explanation
	d, err := i.explainDecision(ctx, &c, q.Chain, &out)
	if err != nil {
		out.Error, out.Reason = faults[faultOf(err)].code, err.Error()
		i.compare(&out, q, access.ReasonOf(err))
		return out
	}
	out.Granted, out.Bound = true, c.client.application.bound
	out.Scopes, out.Resources, out.Lifetime, out.Claims = d.scopes, d.resources, d.lifetime.String(), d.claims
	return out
}

// explainDecision authenticates the client of c, with chain as the client certificate, and decides
// about c. With an error it sets out.Check.
func (i *Issuer) explainDecision(ctx context.Context, c *call, chain []*x509.Certificate, out *Explanation) (d decision, err error) {
	c.certificate, err = i.certificate(&http.Request{TLS: &tls.ConnectionState{PeerCertificates: chain}})
	if err != nil {
		out.Check = CertificateCheck
		return decision{}, authenticationRefusal(err)
	}
	c.client, err = i.authenticate(ctx, c.parameters.get("client_id"), c.certificate)
	if err != nil {
		out.Check = ClientCheck
		return decision{}, authenticationRefusal(err)
	}
	d, err = i.decide(*c, &out.Governance)
	switch fault := faultOf(err); {
	case err == nil:
	case out.Governance.Saw != nil:
		out.Check = RulesCheck
	case fault == invalidScope:
		out.Check = ScopeCheck
	case fault == invalidTarget:
		out.Check = ResourceCheck
	default:
		out.Check = ClientCheck
	}
	return d, err
}

// compare sets what the check that refused q expected and what came. reason is the reason of a refusal
// by the checks of certificate and client.
//
// The refusals themselves have no such details: requests for known and for unknown clients must take
// the same steps.
func (i *Issuer) compare(out *Explanation, q ExplainRequest, reason access.Reason) {
	set := func(compared, expected, got string) { out.Compared, out.Expected, out.Got = compared, expected, got }
	c := i.clients[q.ClientID]
	switch out.Check {
	case CertificateCheck:
		if reason == access.NoCertificate {
			set("certificate", "a client certificate", "none")
		}
	case ClientCheck:
		set(compareClient(c, q, reason))
	case ScopeCheck:
		set("scope", cmp.Or(strings.Join(c.application.scopes, " "), "no scope"), strconv.Quote(q.Scope))
	case ResourceCheck:
		set("resource", cmp.Or(strings.Join(c.application.resources, " or "), "no resource"), fmt.Sprintf("%q", q.Resources))
	}
}

// compareClient returns what was compared, expected and received by the check of the client c, nil for
// an unknown client.
func compareClient(c *client, q ExplainRequest, reason access.Reason) (compared, expected, got string) {
	holder := "the resource server"
	if c != nil && c.partner != "" {
		holder = "partner " + c.partner
	}
	switch reason { //nolint:exhaustive // the other reasons compare nothing
	case access.UnknownClient:
		return "client_id", "an application or a resource server of the configuration", strconv.Quote(q.ClientID)
	case access.PartnerDisabled:
		return "partner", "an enabled partner", holder + ", which is disabled"
	case access.UntrustedCertificate:
		return "anchor", "a chain to an anchor of " + holder, "a certificate that " + q.Chain[0].Issuer.String() + " issued"
	case access.CertificateNotRegistered:
		expected = c.certificate.String()
		if c.method == config.SelfSignedTLSClientAuth {
			expected = "a registered certificate of the client"
		}
		var names []string
		for _, n := range certname.List(q.Chain[0]) {
			names = append(names, n.Key+" "+n.Value)
		}
		names = append(names, "thumbprint "+access.ThumbprintOf(q.Chain[0]).String())
		return "certificate", expected, strings.Join(names, ", ")
	}
	if c != nil && c.application == nil {
		return "client", "an application of a partner", "a resource server"
	}
	return "", "", ""
}

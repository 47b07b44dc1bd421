package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"

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

// An Explanation has the outcome of a token request and the reasons for the outcome.
type Explanation struct {
	Granted    bool           `json:"granted"`
	Error      string         `json:"error,omitempty"`  // the OAuth error code, as in the response to a client
	Reason     string         `json:"reason,omitempty"` // the reason for the operator; never sent to clients
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
	d, err := i.explainDecision(ctx, &c, q.Chain, &out.Governance)
	if err != nil {
		out.Error, out.Reason = faults[faultOf(err)].code, err.Error()
		return out
	}
	out.Granted, out.Bound = true, c.client.application.bound
	out.Scopes, out.Resources, out.Lifetime, out.Claims = d.scopes, d.resources, d.lifetime.String(), d.claims
	return out
}

// explainDecision authenticates the client of c, with chain as the client certificate, and decides
// about c.
func (i *Issuer) explainDecision(ctx context.Context, c *call, chain []*x509.Certificate, trace *rules.Trace) (decision, error) {
	var err error
	c.certificate, err = i.certificate(&http.Request{TLS: &tls.ConnectionState{PeerCertificates: chain}})
	if err == nil {
		c.client, err = i.authenticate(ctx, c.parameters.get("client_id"), c.certificate)
	}
	if err != nil {
		return decision{}, authenticationRefusal(err)
	}
	return i.decide(*c, trace)
}

package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"

	"github.com/tallygate/tallygate/issuer/rules"
)

// A Question is a token request that nobody has made.
type Question struct {
	ClientID  string
	Chain     []*x509.Certificate // the client certificate first; empty for none
	Scope     string              // with spaces between
	Resources []string
	Address   netip.Addr
}

// An Explanation is what a token request would get, and why.
type Explanation struct {
	Granted    bool           `json:"granted"`
	Error      string         `json:"error,omitempty"`  // the code on the wire
	Reason     string         `json:"reason,omitempty"` // for the operator; never on the wire
	Scopes     []string       `json:"scopes,omitempty"`
	Resources  []string       `json:"resources,omitempty"`
	Lifetime   string         `json:"lifetime,omitempty"`
	Bound      bool           `json:"bound"`
	Claims     map[string]any `json:"claims,omitempty"`
	Governance rules.Trace    `json:"governance"` // empty when the request did not get so far
}

// Explain answers q by the steps of the token endpoint, and makes no token. It needs no
// Open: without one it does not know what has been revoked.
func (i *Issuer) Explain(ctx context.Context, q Question) Explanation {
	c := call{address: q.Address, parameters: form{"grant_type": {clientCredentials}, "client_id": {q.ClientID}}}
	if q.Scope != "" {
		c.parameters["scope"] = []string{q.Scope}
	}
	if len(q.Resources) > 0 {
		c.parameters[resource] = q.Resources
	}
	var out Explanation
	d, err := i.explained(ctx, &c, q.Chain, &out.Governance)
	if err != nil {
		out.Error, out.Reason = faults[faultOf(err)].code, err.Error()
		return out
	}
	out.Granted, out.Bound = true, c.client.application.bound
	out.Scopes, out.Resources, out.Lifetime, out.Claims = d.scopes, d.resources, d.lifetime.String(), d.claims
	return out
}

// explained goes through the steps, over a connection on which chain was shown.
func (i *Issuer) explained(ctx context.Context, c *call, chain []*x509.Certificate, trace *rules.Trace) (decision, error) {
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

package issuer

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A call is a request at an endpoint that clients authenticate at. Of one that was
// turned down it holds what was known by then.
type call struct {
	parameters  form
	address     netip.Addr // where the request came from
	client      *client    // nil until authenticated
	certificate *access.Certificate
}

// admit reads the form of r and authenticates the client that sent it.
func (i *Issuer) admit(r *http.Request) (call, error) {
	c := call{address: sourceOf(r)}
	if !i.addresses.allow(c.address) {
		return c, refuse(tooManyRequests, "the source address is over its rate")
	}
	var err error
	if c.parameters, err = readForm(r); err != nil {
		return c, err
	}
	if err := oneMethod(r, c.parameters); err != nil {
		return c, err
	}
	if c.certificate, err = i.certificate(r); err == nil {
		c.client, err = i.authenticate(r.Context(), c.parameters.get("client_id"), c.certificate)
	}
	if err != nil {
		return c, authenticationRefusal(err)
	}
	if !c.client.rate.Allow() {
		return c, refuse(tooManyRequests, "the client is over its rate")
	}
	return c, nil
}

// authenticationRefusal gives err its answer: what cannot be told is neither yes nor
// no, and of everything else the client learns only that it is not authenticated.
func authenticationRefusal(err error) error {
	switch access.ReasonOf(err).Status() {
	case http.StatusInternalServerError:
		return &refusal{serverError, err}
	case http.StatusServiceUnavailable:
		return &refusal{temporarilyUnavailable, err}
	}
	return &refusal{invalidClient, err}
}

// oneMethod checks that the certificate is the only credential: a client must not
// use two methods in one request, RFC 6749 section 2.3.
func oneMethod(r *http.Request, parameters form) error {
	if len(r.Header["Authorization"]) > 0 {
		return refuse(invalidRequest, "client credentials in the Authorization header")
	}
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		if parameters.get(name) != "" {
			return refuse(invalidRequest, "client credentials in the form")
		}
	}
	return nil
}

// authenticate returns the client called id if certificate is its own. By RFC 8705
// section 2.1 that is one that chains to an anchor of the client's partner and
// carries the registered name, in the leaf: the thumbprint plays no part, so that a
// renewed certificate goes on working. By section 2.2 it is one that is registered
// itself. All is computed before anything is judged, so that known and unknown
// clients take the same steps. The error is an *access.Denial.
func (i *Issuer) authenticate(ctx context.Context, id string, certificate *access.Certificate) (*client, error) {
	if certificate == nil {
		return nil, &access.Denial{Reason: access.NoCertificate}
	}
	c := i.clients[id]
	if c == nil {
		c = &stranger
	}
	chains := certificate.ChainsTo(c.anchors)
	named := c.certificate.MatchesName(certificate.Leaf)
	var noKeys error
	if c.method == config.SelfSignedTLSClientAuth {
		chains = true // is not asked for
		named, noKeys = c.keys.Has(ctx, certificate.Leaf)
	}
	revoked := i.revoked.certificate(certificate.Thumbprint) // last: Has may have waited
	switch {
	case c == &stranger:
		return nil, &access.Denial{Reason: access.UnknownClient}
	case c.disabled:
		return nil, &access.Denial{Reason: access.PartnerDisabled}
	case revoked:
		return nil, &access.Denial{Reason: access.RevokedCertificate}
	case noKeys != nil:
		return nil, &access.Denial{Reason: access.IssuerUnavailable, Err: noKeys}
	case !chains:
		return nil, &access.Denial{Reason: access.UntrustedCertificate, Err: errors.New("it chains to no anchor of this client's partner")}
	case !named:
		return nil, &access.Denial{Reason: access.CertificateNotRegistered}
	}
	return c, nil
}

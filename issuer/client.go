package issuer

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A call is a request to an endpoint that authenticates its clients. If the request is refused, the
// call has the values that were known when it was refused.
type call struct {
	parameters  form
	address     netip.Addr // source address, without a zone
	client      *client    // nil until the client is authenticated
	certificate *access.Certificate
	proofs      []string // the DPoP headers
	key         string   // the JWK thumbprint of the key that a proof proves; "" without a proof
}

// admit checks the rates, reads the form of r and authenticates the client. Every error is a refusal.
func (i *Issuer) admit(r *http.Request) (call, error) {
	c := call{address: sourceOf(r), proofs: r.Header["Dpop"]}
	if !i.addresses.allow(c.address) {
		return c, refuse(tooManyRequests, "the source address exceeds its request rate")
	}
	var err error
	if c.parameters, err = readForm(r); err != nil {
		return c, err
	}
	if err := checkSingleMethod(r, c.parameters); err != nil {
		return c, err
	}
	if err := i.identify(r, &c); err != nil {
		return c, err
	}
	if !c.client.rate.Allow() {
		return c, refuse(tooManyRequests, "the client exceeds its request rate")
	}
	return c, i.currentRefusal()
}

// identify authenticates the client that c names by the certificate of r. Every error is a refusal.
func (i *Issuer) identify(r *http.Request, c *call) (err error) {
	if c.certificate, err = i.certificate(r); err == nil {
		c.client, err = i.authenticate(r.Context(), c.parameters.get("client_id"), c.certificate)
	}
	if err != nil {
		return authenticationRefusal(err)
	}
	return nil
}

// authenticationRefusal maps a denial to an error response. A denial for a server fault and a denial
// for an unknown status have responses with codes of their own. Every other denial becomes
// invalid_client, so that clients cannot tell the causes apart.
func authenticationRefusal(err error) error {
	switch access.ReasonOf(err).Status() {
	case http.StatusInternalServerError:
		return &refusal{serverError, err}
	case http.StatusServiceUnavailable:
		return &refusal{temporarilyUnavailable, err}
	}
	return &refusal{invalidClient, err}
}

// checkSingleMethod checks that the certificate is the only client credential. A client must not
// use two methods in one request (RFC 6749 section 2.3).
func checkSingleMethod(r *http.Request, parameters form) error {
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

// authenticate returns the client with this id if certificate is registered for the client. With
// tls_client_auth (RFC 8705 section 2.1) the certificate must chain to an anchor of the client's
// partner, and the leaf must have the registered name. A renewed certificate continues to work,
// because its thumbprint is not compared. With self_signed_tls_client_auth (RFC 8705 section 2.2) the
// certificate itself must be registered. Every check runs before the first result is used, so
// requests for known and for unknown clients take the same steps. The error is an *access.Denial.
func (i *Issuer) authenticate(ctx context.Context, id string, certificate *access.Certificate) (*client, error) {
	if certificate == nil {
		return nil, &access.Denial{Reason: access.NoCertificate}
	}
	c := i.clients[id]
	if c == nil {
		c = &unknownClient
	}
	chains := certificate.ChainsTo(c.anchors)
	registered := c.certificate.MatchesName(certificate.Leaf)
	var unavailable error
	if c.method == config.SelfSignedTLSClientAuth {
		chains = true // because self-signed certificates may have no anchor
		registered, unavailable = c.certificates.Has(ctx, certificate.Leaf)
	}
	revoked := i.revocations.set.Certificate(certificate.Thumbprint) // after Has, because a revocation may arrive while Has waits for a fetch
	switch {
	case c == &unknownClient:
		return nil, &access.Denial{Reason: access.UnknownClient}
	case c.disabled:
		return nil, &access.Denial{Reason: access.PartnerDisabled}
	case revoked:
		return nil, &access.Denial{Reason: access.RevokedCertificate}
	case unavailable != nil:
		return nil, &access.Denial{Reason: access.IssuerUnavailable, Err: unavailable}
	case certificate.ServerOnly && !c.serverAuth:
		return nil, &access.Denial{Reason: access.WrongUsage, Err: errors.New("its extended key usage allows server authentication alone, and usages of the client does not list server_auth")}
	case !chains:
		return nil, &access.Denial{Reason: access.UntrustedCertificate, Err: errors.New("it chains to no anchor of the client's partner")}
	case !registered:
		return nil, &access.Denial{Reason: access.CertificateNotRegistered}
	}
	return c, nil
}

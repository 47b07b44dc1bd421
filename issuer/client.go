package issuer

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A client is an application as the issuer sees it.
type client struct {
	id          string
	partner     string
	disabled    bool // its partner is
	certificate config.RegisteredCertificate
	anchors     []access.AnchorKey // its partner's
	scopes      []string           // what it may be granted
}

// stranger stands in for every client that does not exist, so that such a request
// takes the same way as one with the wrong certificate.
var stranger client

// clientsOf returns the applications that authenticate by tls_client_auth, by
// client_id.
func clientsOf(partners []config.Partner, anchors map[config.Name][]access.AnchorKey) map[string]*client {
	clients := make(map[string]*client)
	for _, p := range partners {
		for _, a := range p.Applications {
			if a.Authentication != config.TLSClientAuth {
				continue
			}
			c := &client{
				id:          string(a.ClientID),
				partner:     string(p.Name),
				disabled:    p.Disabled,
				certificate: a.Certificate,
				anchors:     anchors[p.Name],
			}
			for _, s := range a.Scopes {
				c.scopes = append(c.scopes, string(s))
			}
			clients[c.id] = c
		}
	}
	return clients
}

// A call is a request at an endpoint that clients authenticate at. Of one that was
// turned down it holds what was known by then.
type call struct {
	parameters  map[string]string
	client      *client // nil until authenticated
	certificate *access.Certificate
}

// admit reads the form of r and authenticates the client that sent it.
func (i *Issuer) admit(r *http.Request) (call, error) {
	parameters, err := readForm(r)
	if err != nil {
		return call{}, err
	}
	c := call{parameters: parameters}
	if err := oneMethod(r, parameters); err != nil {
		return c, err
	}
	if c.certificate, err = i.certificate(r); err == nil {
		c.client, err = i.authenticate(parameters["client_id"], c.certificate)
	}
	if err == nil {
		return c, nil
	}
	switch access.Deny(err).Reason.Status() {
	case http.StatusInternalServerError:
		return c, &refusal{serverError, err}
	case http.StatusServiceUnavailable: // cannot tell: neither yes nor no
		return c, &refusal{temporarilyUnavailable, err}
	}
	return c, &refusal{invalidClient, err}
}

// oneMethod checks that the certificate is the only credential: a client must not
// use two methods in one request, RFC 6749 section 2.3.
func oneMethod(r *http.Request, parameters map[string]string) error {
	if len(r.Header["Authorization"]) > 0 {
		return refuse(invalidRequest, "client credentials in the Authorization header")
	}
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		if parameters[name] != "" {
			return refuse(invalidRequest, "client credentials in the form")
		}
	}
	return nil
}

// authenticate returns the client called id if certificate is its own, by RFC 8705
// section 2.1: it chains to an anchor of the client's partner and carries the
// registered name, in the leaf. The thumbprint plays no part, so that a renewed
// certificate goes on working. All is computed before anything is judged, so that
// known and unknown clients take the same steps. The error is an *access.Denial.
func (i *Issuer) authenticate(id string, certificate *access.Certificate) (*client, error) {
	if certificate == nil {
		return nil, &access.Denial{Reason: access.NoCertificate}
	}
	c := i.clients[id]
	if c == nil {
		c = &stranger
	}
	chains := certificate.ChainsTo(c.anchors)
	named := c.certificate.MatchesName(certificate.Leaf)
	switch {
	case c == &stranger:
		return nil, &access.Denial{Reason: access.UnknownClient}
	case c.disabled:
		return nil, &access.Denial{Reason: access.PartnerDisabled}
	case !chains:
		return nil, &access.Denial{Reason: access.UntrustedCertificate, Err: errors.New("it chains to no anchor of this client's partner")}
	case !named:
		return nil, &access.Denial{Reason: access.CertificateNotRegistered}
	}
	return c, nil
}

// longestLogged is the length up to which a client_id is logged, registered or not:
// the most that a registered one may have. It is too short for a token that was put
// into the wrong parameter.
const longestLogged = 128

// attributes returns what the log says of c and its outcome. Of a certificate that
// was turned down it tells the names that were computed, for whoever has to find
// out what to register.
func (c call) attributes(err error) []slog.Attr {
	a := []slog.Attr{slog.Bool("granted", err == nil)}
	if id := c.parameters["client_id"]; len(id) <= longestLogged {
		a = append(a, slog.String("client_id", id))
	}
	if c.client != nil {
		a = append(a, slog.String("partner", c.client.partner))
	}
	if c.certificate != nil {
		a = append(a, slog.String("thumbprint", c.certificate.Thumbprint.String()))
	}
	if err == nil {
		return a
	}
	f := faultOf(err)
	a = append(a, slog.String("error", faults[f].code), slog.String("err", access.Clip(err.Error())))
	var denial *access.Denial
	if errors.As(err, &denial) {
		a = append(a, slog.String("reason", denial.Reason.String()))
	}
	if f == invalidClient && c.certificate != nil {
		leaf := c.certificate.Leaf
		a = append(a, slog.String("subject_dn", access.Clip(subject(leaf))), slog.String("san_dns", access.Clip(strings.Join(leaf.DNSNames, " "))))
	}
	return a
}

// subject returns cert's subject in the order and grouping of its encoding, which
// pkix.Name does not keep, so that it can be registered as it stands.
func subject(cert *x509.Certificate) string {
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawSubject, &name); err != nil {
		return ""
	}
	return name.String()
}

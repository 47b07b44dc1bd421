package policy

import (
	"errors"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// partner is an organisation with its anchors.
type partner struct {
	name     string
	disabled bool
	anchors  []access.AnchorKey
}

// application is an OAuth client of a partner.
type application struct {
	clientID    config.ClientID
	rule        access.Rule
	partner     *partner
	certificate *config.RegisteredCertificate
	selfSigned  bool                       // authentication is self_signed_tls_client_auth, RFC 8705 section 2.2
	registered  map[access.Thumbprint]bool // with selfSigned: the thumbprints in the configuration
	keysFetched bool                       // with selfSigned: more certificates are at a jwks_uri, which only the local issuer reads
	serverAuth  bool                       // certificates for server authentication alone are accepted
	settings    *config.Application
}

// server is an authorization server with the partners whose applications it may issue tokens for.
type server struct {
	partners    map[string]bool // nil means every partner
	localIssuer bool            // the server is our own issuer
}

// newServer returns the server for s. localIssuer is the gate's own issuer, or nil.
func newServer(s *config.AuthorizationServer, localIssuer *config.Issuer) *server {
	known := &server{localIssuer: localIssuer != nil && localIssuer.Issuer == s.Issuer}
	if s.Partners != nil {
		known.partners = make(map[string]bool, len(s.Partners))
	}
	for _, name := range s.Partners {
		known.partners[string(name)] = true
	}
	return known
}

// speaksFor reports whether s may issue tokens for applications of partner.
func (s *server) speaksFor(partner string) bool { return s.partners == nil || s.partners[partner] }

func errUnknownClient(clientID string) error {
	return &access.Mismatch{Name: "client_id", Want: "a configured application", Got: quoted(clientID)}
}

// errNotSpokenFor is the detail of a refusal because server may not issue tokens for the partner of app.
func errNotSpokenFor(server string, app *application) error {
	return &access.Mismatch{Name: "partner", Want: "a partner that authorization server " + server + " may speak for", Got: app.partner.name}
}

// Details of refusals: why an application does not accept a certificate.
var (
	errNoCertificate  = errors.New("the request has no client certificate")
	errForeignAnchor  = errors.New("the certificate chains to anchors of other partners only")
	errNotPinned      = errors.New("the certificate chains to no anchor and its thumbprint is not registered")
	errNameUnknown    = errors.New("the certificate has neither the registered name nor a registered thumbprint")
	errThumbprintOnly = errors.New("the thumbprint of the certificate is not registered")
	errNotListed      = errors.New("the certificate is not registered for this client")
	errServerOnly     = errors.New("the extended key usage of the certificate, or of an authority above it, allows server authentication alone, and usages of the application does not list server_auth")
	errNotFetched     = errors.New("the client's certificates are at its jwks_uri, which only our own issuer reads, and the token is from another authorization server")
)

// certificateReason returns the reason for err, an error of checkCertificate.
func certificateReason(err error) access.Reason {
	if errors.Is(err, errServerOnly) {
		return access.WrongUsage
	}
	return access.CertificateNotRegistered
}

// checkCertificate returns nil if cert is a certificate of a, and an error that says why it is not.
// from is the authorization server that issued the token.
//
// A certificate under an anchor of the partner is accepted if it has the registered name or a
// registered thumbprint; if a registers nothing, every certificate under that anchor is accepted. A
// certificate without an anchor is accepted if its thumbprint is registered. It is also accepted if
// the partner has no anchor and a registers nothing: then the binding of the token identifies the
// client, and package config has limited the authorization servers that may issue such a token. A
// certificate that chains only to anchors of other partners is never accepted.
func (a *application) checkCertificate(cert *access.Certificate, from *server) error {
	if cert == nil || cert.Leaf == nil || cert.Thumbprint == (access.Thumbprint{}) {
		return errNoCertificate
	}
	if cert.ServerOnly && !a.serverAuth {
		return errServerOnly
	}
	chains := cert.ChainsTo(a.partner.anchors)
	if !chains && len(cert.Anchors) > 0 {
		return errForeignAnchor
	}
	if a.selfSigned {
		return a.checkRegistered(cert, from)
	}
	registered := a.certificate
	pinned, open := registered.HasThumbprint(cert.Thumbprint), registered.MatchesAny()
	switch {
	case pinned, open && (chains || len(a.partner.anchors) == 0), chains && registered.MatchesName(cert.Leaf):
		return nil
	case !chains:
		return errNotPinned
	case registered.HasName():
		return errNameUnknown
	}
	return errThumbprintOnly
}

// checkRegistered is checkCertificate for self_signed_tls_client_auth: cert itself must be registered
// (RFC 8705 section 2.2.2). Only our own issuer reads the certificates at a jwks_uri. It binds the
// tokens of a to these certificates only, so cert needs no second check. A token of another
// authorization server may be bound to a certificate that is not at the jwks_uri.
func (a *application) checkRegistered(cert *access.Certificate, from *server) error {
	switch {
	case a.registered[cert.Thumbprint], a.keysFetched && from.localIssuer:
		return nil
	case a.keysFetched:
		return errNotFetched
	}
	return errNotListed
}

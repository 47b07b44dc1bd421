package policy

import (
	"errors"
	"slices"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// partner is an organisation as the checks need it.
type partner struct {
	name     string
	disabled bool
	anchors  []access.AnchorKey
}

// application is an OAuth client of a partner.
type application struct {
	partner     *partner
	certificate *config.RegisteredCertificate
	selfSigned  bool                       // its authentication is self_signed_tls_client_auth, RFC 8705 section 2.2
	registered  map[access.Thumbprint]bool // where selfSigned: those that the configuration holds
	fetched     bool                       // where selfSigned: the others are at a jwks_uri, which our own issuer reads
	grants      []config.APIGrant
}

// server is an authorization server as far as it may speak for applications.
type server struct {
	partners map[string]bool // that it may speak for; nil: every partner
	own      bool            // it is our own issuer
}

// newServer returns s for a gate whose own issuer is own, nil for none.
func newServer(s *config.AuthorizationServer, own *config.Issuer) *server {
	known := &server{own: own != nil && own.Issuer == s.Issuer}
	if s.Partners != nil {
		known.partners = make(map[string]bool, len(s.Partners))
	}
	for _, name := range s.Partners {
		known.partners[string(name)] = true
	}
	return known
}

// speaksFor reports whether a token of s may name an application of that partner.
func (s *server) speaksFor(partner string) bool { return s.partners == nil || s.partners[partner] }

// Why a certificate does not count as an application's.
var (
	errNoCertificate  = errors.New("there is no client certificate")
	errForeignAnchor  = errors.New("the certificate chains to anchors of other partners only")
	errNotPinned      = errors.New("the certificate chains to no anchor and its thumbprint is not registered")
	errNameUnknown    = errors.New("the certificate carries neither the registered name nor a registered thumbprint")
	errThumbprintOnly = errors.New("the certificate has none of the registered thumbprints")
	errNotListed      = errors.New("the certificate is none of those that are registered for this client")
	errNotFetched     = errors.New("the client's certificates are at its jwks_uri, which only our own issuer reads, and the token comes from another authorization server")
)

// admit returns nil when cert is one of a's certificates, otherwise why it is not. from is
// the authorization server whose token names a.
//
// A certificate of the partner's own anchors counts when it carries the registered name or
// has a registered thumbprint; where nothing is registered, every one counts. A certificate
// that chains to no anchor counts by a registered thumbprint. Without one it counts only
// where neither an anchor nor a registration could tell it from others: then the binding of
// the token tells, and package config has made sure that not just any authorization server
// can make such a token. A certificate that chains only to anchors of other partners never
// counts: a partner's authority speaks for that partner alone.
func (a *application) admit(cert *access.Certificate, from *server) error {
	if cert == nil || cert.Leaf == nil || cert.Thumbprint == (access.Thumbprint{}) {
		return errNoCertificate
	}
	chains := cert.ChainsTo(a.partner.anchors)
	if !chains && len(cert.Anchors) > 0 {
		return errForeignAnchor
	}
	if a.selfSigned {
		return a.admitRegistered(cert, from)
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

// admitRegistered is admit for self_signed_tls_client_auth: cert must be a registered
// certificate itself, RFC 8705 section 2.2.2. Those at a jwks_uri are known to our own
// issuer alone, which binds a token to no other; the binding that another authorization
// server gave its token says nothing of them.
func (a *application) admitRegistered(cert *access.Certificate, from *server) error {
	switch {
	case a.registered[cert.Thumbprint], a.fetched && from.own:
		return nil
	case a.fetched:
		return errNotFetched
	}
	return errNotListed
}

// granted reports whether a may call api by method. Its cost grows with the grants
// of this application alone.
func (a *application) granted(api, method string) bool {
	return slices.ContainsFunc(a.grants, func(g config.APIGrant) bool {
		return string(g.API) == api && (len(g.Methods) == 0 || slices.Contains(g.Methods, config.Method(method)))
	})
}

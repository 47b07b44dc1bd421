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
	selfSigned  bool // authenticates by certificates that are registered themselves
	grants      []config.APIGrant
}

// Why a certificate does not count as an application's.
var (
	errNoCertificate  = errors.New("there is no client certificate")
	errForeignAnchor  = errors.New("the certificate chains to anchors of other partners only")
	errNotPinned      = errors.New("the certificate chains to no anchor and its thumbprint is not registered")
	errNameUnknown    = errors.New("the certificate carries neither the registered name nor a registered thumbprint")
	errThumbprintOnly = errors.New("the certificate has none of the registered thumbprints")
)

// admit returns nil when cert is one of a's certificates, otherwise why it is not.
//
// A certificate of the partner's own anchors counts when it carries the registered
// name or a registered thumbprint; where nothing is registered, every one counts. One
// that chains to nothing (RFC 8705 section 2.2) counts by a registered thumbprint;
// without one it counts only where neither anchors nor anything else could tell it
// from others: then the binding of the token, already checked, is what counts. So it
// is where a authenticates by self_signed_tls_client_auth and its certificates are not
// registered here but in a key set, whatever its partner's anchors are: its tokens are
// bound to one that was found there. One that chains only to anchors of other partners
// never counts: a partner's authority speaks for that partner alone.
func (a *application) admit(cert *access.Certificate) error {
	if cert == nil || cert.Leaf == nil || cert.Thumbprint == (access.Thumbprint{}) {
		return errNoCertificate
	}
	registered := a.certificate
	pinned := registered.Pins(cert.Thumbprint)
	open := registered.Open()
	switch {
	case cert.ChainsTo(a.partner.anchors):
		if open || pinned || registered.MatchesName(cert.Leaf) {
			return nil
		}
		if registered.Names() {
			return errNameUnknown
		}
		return errThumbprintOnly
	case len(cert.Anchors) > 0:
		return errForeignAnchor
	case pinned, open && (a.selfSigned || len(a.partner.anchors) == 0):
		return nil
	}
	return errNotPinned
}

// granted reports whether a may call api by method. Its cost grows with the grants
// of this application alone.
func (a *application) granted(api, method string) bool {
	return slices.ContainsFunc(a.grants, func(g config.APIGrant) bool {
		return string(g.API) == api && (len(g.Methods) == 0 || slices.Contains(g.Methods, config.Method(method)))
	})
}

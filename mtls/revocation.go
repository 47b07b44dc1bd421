package mtls

import (
	"errors"
	"slices"
	"time"

	"github.com/tallygate/tallygate/access"
)

// ErrRevokedThumbprint means that an issuer, and not a revocation list, has revoked the certificate.
var ErrRevokedThumbprint = errors.New("the issuer has revoked the certificate by its thumbprint")

var errRevokedThumbprint = &access.Denial{Reason: access.RevokedCertificate, Err: ErrRevokedThumbprint}

// unrevokedAnchors returns the anchors of v that are reachable over a chain in which no certificate
// is revoked or has an unknown status. In the common case it returns v.anchors and does not allocate.
// If no such anchor is left, it returns an error that wraps [*access.Denial]: RevokedCertificate if a
// certificate is revoked, and RevocationUnknown otherwise. t.revocation must not be nil.
func (t *Trust) unrevokedAnchors(v *verification, now time.Time) ([]access.AnchorKey, error) {
	var refused error
	good := 0
	for i := range v.chains {
		err := t.revocation.Check(v.chains[i].certificates, now)
		switch {
		case err == nil:
			good++
		case refused == nil || access.ReasonOf(err) == access.RevokedCertificate:
			refused = err
		}
	}
	switch {
	case refused == nil: // also for a self-signed certificate, which has no anchors
		return v.anchors, nil
	case good == 0:
		return nil, refused
	}
	var anchors []access.AnchorKey
	for _, w := range v.chains {
		if t.revocation.Check(w.certificates, now) == nil && !slices.Contains(anchors, w.anchor) {
			anchors = append(anchors, w.anchor)
		}
	}
	if len(anchors) == 0 { // a revocation list that arrived between the two checks revokes the chain; an accepted certificate without anchors would count as self-signed
		return nil, refused
	}
	return anchors, nil
}

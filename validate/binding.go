package validate

import (
	"fmt"

	"github.com/tallygate/tallygate/access"
)

// checkBinding returns [access.Granted] when c binds a token to cert, RFC 8705
// section 3, and otherwise why it does not.
func checkBinding(c access.Confirmation, cert *access.Certificate) (access.Reason, error) {
	switch {
	case !c.Present:
		return access.NotBound, nil
	case c.Thumbprint == access.Thumbprint{}:
		return access.MalformedBinding, nil
	case !c.Thumbprint.Matches(cert.Thumbprint):
		return access.BoundToOther, fmt.Errorf("bound to %s, presented with %s", c.Thumbprint, cert.Thumbprint)
	default:
		return access.Granted, nil
	}
}

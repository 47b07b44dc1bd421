package validate

import "github.com/tallygate/tallygate/access"

// confirmationClaim is what a refused binding compares with the thumbprint of the
// certificate that the token came with.
const confirmationClaim = "cnf.x5t#S256"

// checkBinding returns [access.Granted] when c binds a token to cert, RFC 8705
// section 3, and otherwise why it does not.
func checkBinding(c access.Confirmation, cert *access.Certificate) (access.Reason, error) {
	switch {
	case !c.Present:
		return access.NotBound, &access.Mismatch{Of: confirmationClaim, Want: cert.Thumbprint.String(), Got: "no cnf"}
	case c.Thumbprint == access.Thumbprint{}:
		return access.MalformedBinding, &access.Mismatch{Of: confirmationClaim, Want: cert.Thumbprint.String(), Got: "a cnf that is not one well-formed x5t#S256 alone"}
	case !c.Thumbprint.Matches(cert.Thumbprint):
		return access.BoundToOther, &access.Mismatch{Of: confirmationClaim, Want: cert.Thumbprint.String(), Got: c.Thumbprint.String()}
	default:
		return access.Granted, nil
	}
}

package validate

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
)

// confirmation reads a cnf claim (RFC 7800 section 3.1) as far as it concerns
// certificates. A cnf of whatever form is present, also null: a token with one is
// never taken for a bearer token. Its thumbprint is zero, which matches no
// certificate, unless cnf is an object whose x5t#S256 is a well-formed thumbprint
// (RFC 8705 section 3.1).
func confirmation(v jsontext.Value) access.Confirmation {
	if v == nil {
		return access.Confirmation{}
	}
	c := access.Confirmation{Present: true}
	if v.Kind() != jsontext.KindBeginObject {
		return c
	}
	var members struct {
		Thumbprint jsontext.Value `json:"x5t#S256"`
	}
	if err := json.Unmarshal(v, &members); err != nil {
		return c
	}
	s, ok := text(members.Thumbprint)
	if !ok {
		return c
	}
	if t, err := access.ParseThumbprint(s); err == nil {
		c.Thumbprint = t
	}
	return c
}

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

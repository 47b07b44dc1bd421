package proxy

import (
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/validate"
)

// realm names the protection space (RFC 9110 section 11.5). It is present because RFC 6750 section 3
// requires at least one parameter in a challenge.
const realm = "tallygate"

// appendChallenges appends WWW-Authenticate to fields: one challenge for each scheme that the host of
// the request offers. code, description and scopes are in the challenge of the scheme that the client
// used (RFC 6750 section 3, RFC 9449 section 7.1). If the host does not offer that scheme, they are
// in every challenge.
func (c *checkedRequest) appendChallenges(fields []http1.Field, code, description string, scopes []string) []http1.Field {
	offered := c.offeredSchemes()
	used := slices.Contains(offered, c.Credentials.Scheme)
	for _, scheme := range offered {
		value := ""
		if used && scheme != c.Credentials.Scheme {
			value = c.challenge(scheme, "", "", nil)
		} else {
			value = c.challenge(scheme, code, description, scopes)
		}
		fields = append(fields, http1.Field{Name: "Www-Authenticate", Value: value})
	}
	return fields
}

// offeredSchemes returns the schemes that the host offers. There is at least one scheme.
func (c *checkedRequest) offeredSchemes() []validate.Scheme {
	checks := c.Checks
	bindings := checks.Table.Bindings(c.Host)
	schemes := make([]validate.Scheme, 0, 3)
	if bindings.Certificate {
		schemes = append(schemes, validate.Bearer)
	}
	if bindings.Key {
		schemes = append(schemes, validate.DPoP)
	}
	if bindings.Certificate && checks.Validator.Offers(validate.MTLSPoP) {
		schemes = append(schemes, validate.MTLSPoP)
	}
	return schemes
}

// challenge returns one challenge. It escapes nothing, because texts are fixed and configured scopes
// need no escaping.
func (c *checkedRequest) challenge(scheme validate.Scheme, code, description string, scopes []string) string {
	var b strings.Builder
	b.WriteString(scheme.String() + ` realm="` + realm + `"`)
	if code != "" {
		b.WriteString(`, error="` + code + `", error_description="` + description + `"`)
	}
	if len(scopes) > 0 {
		b.WriteString(`, scope="` + strings.Join(scopes, " ") + `"`)
	}
	if scheme == validate.DPoP {
		b.WriteString(`, algs="` + strings.Join(c.Checks.Validator.Algorithms(), " ") + `"`)
	}
	return b.String()
}

// dpopNonce is the header with a nonce for DPoP proofs (RFC 9449 section 8).
const dpopNonce = "Dpop-Nonce"

// nonce returns the nonce for the response if the client uses DPoP and needs a new nonce for its next
// proofs (RFC 9449 section 8.2). Otherwise it returns "".
func (c *checkedRequest) nonce() string {
	if c.Credentials.Proof == nil {
		return ""
	}
	return c.Checks.Validator.Nonce(c.Credentials)
}

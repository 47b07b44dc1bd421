package facts

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
)

// Members are the claims of a token as far as they count here: RFC 7519 section 4.1,
// RFC 8693 sections 4.2 and 4.3, RFC 7800 section 3.1. The same names stand in a JWT
// and in the answer of an introspection, RFC 7662 section 2.2 and RFC 8705 section 3.2.
// A nil member is absent. Decode them by github.com/go-json-experiment/json, which
// compares names exactly and takes no name twice.
type Members struct {
	Issuer       jsontext.Value `json:"iss"`
	Subject      jsontext.Value `json:"sub"`
	ClientID     jsontext.Value `json:"client_id"`
	TokenID      jsontext.Value `json:"jti"`
	Audience     jsontext.Value `json:"aud"`
	Scope        jsontext.Value `json:"scope"`
	Expires      jsontext.Value `json:"exp"`
	NotBefore    jsontext.Value `json:"nbf"`
	IssuedAt     jsontext.Value `json:"iat"`
	Confirmation jsontext.Value `json:"cnf"`
}

// Read returns what a token with these members says, as the server of that name vouches
// for it. A claim of the wrong type makes the whole token malformed: the error is an
// [access.Denial].
func (m *Members) Read(server string) (access.Unchecked, error) {
	var r claimReader
	u := access.Unchecked{
		Server:       server,
		Issuer:       r.text("iss", m.Issuer),
		Subject:      r.text("sub", m.Subject),
		ClientID:     r.text("client_id", m.ClientID),
		TokenID:      r.text("jti", m.TokenID),
		Audience:     r.texts("aud", m.Audience),
		Scopes:       r.scopes(m.Scope),
		Expires:      r.time("exp", m.Expires),
		NotBefore:    r.time("nbf", m.NotBefore),
		IssuedAt:     r.time("iat", m.IssuedAt),
		Confirmation: confirmation(m.Confirmation),
	}
	if r.err != nil {
		return access.Unchecked{}, &access.Denial{Reason: access.MalformedToken, ClientID: u.ClientID, Err: r.err}
	}
	return u, nil
}

// confirmation reads a cnf claim (RFC 7800 section 3.1). A cnf of whatever form is present:
// a token with a cnf is never taken for a bearer token. Its thumbprint is zero, which
// matches no certificate, unless cnf is an object whose only member is a well-formed
// x5t#S256 (RFC 8705 section 3.1). Any other member, such as the jkt of DPoP (RFC 9449
// section 6.1), is a second binding that nothing here checks, and half a binding is none.
func confirmation(v jsontext.Value) access.Confirmation {
	if v == nil {
		return access.Confirmation{}
	}
	c := access.Confirmation{Present: true}
	var members map[string]jsontext.Value
	if v.Kind() != jsontext.KindBeginObject || json.Unmarshal(v, &members) != nil || len(members) != 1 {
		return c
	}
	s, ok := Text(members["x5t#S256"])
	if !ok {
		return c
	}
	if t, err := access.ParseThumbprint(s); err == nil {
		c.Thumbprint = t
	}
	return c
}

// A claimReader turns claims into Go values and keeps the first fault. What is
// absent is the zero value and no fault.
type claimReader struct{ err error }

func (r *claimReader) fault(claim, what string) {
	if r.err == nil {
		r.err = fmt.Errorf("claim %s %s", claim, what)
	}
}

func (r *claimReader) text(claim string, v jsontext.Value) string {
	if v == nil {
		return ""
	}
	s, ok := Text(v)
	if !ok {
		r.fault(claim, "is no string")
	}
	return s
}

// texts reads a string or an array of strings, RFC 7519 section 4.1.3.
func (r *claimReader) texts(claim string, v jsontext.Value) []string {
	if v == nil {
		return nil
	}
	if one, ok := Text(v); ok {
		return []string{one}
	}
	var elements []jsontext.Value
	if v.Kind() != jsontext.KindBeginArray || json.Unmarshal(v, &elements) != nil {
		r.fault(claim, "is neither a string nor an array of strings")
		return nil
	}
	all := make([]string, len(elements))
	for i, e := range elements {
		all[i] = r.text(claim, e)
	}
	return all
}

// lastSecond is 9999-12-31T23:59:59Z, the last moment that RFC 3339 can write. A
// claim beyond it is a mistake, not a long life.
const lastSecond = 253_402_300_799

// time reads a NumericDate, RFC 7519 section 2: seconds since 1970, possibly with
// a fraction.
func (r *claimReader) time(claim string, v jsontext.Value) time.Time {
	if v == nil {
		return time.Time{}
	}
	if v.Kind() != jsontext.KindNumber {
		r.fault(claim, "is no number")
		return time.Time{}
	}
	// Whole seconds up to lastSecond, 38 bits, are exact in 53 bits of mantissa.
	n, err := strconv.ParseFloat(string(v), 64)
	if err != nil || n < 0 || n > lastSecond {
		r.fault(claim, "is out of range")
		return time.Time{}
	}
	seconds, fraction := math.Modf(n)
	return time.Unix(int64(seconds), int64(fraction*1e9))
}

// scopes splits a scope claim at spaces, RFC 6749 section 3.3. What is then no scope
// token, such as two scopes joined by a tab, is nobody's scope and left out. A claim
// without any is not nil: it says that there are none.
func (r *claimReader) scopes(v jsontext.Value) []string {
	if v == nil {
		return nil
	}
	all := []string{}
	for s := range strings.SplitSeq(r.text("scope", v), " ") {
		if isScope(s) {
			all = append(all, s)
		}
	}
	return all
}

// isScope reports whether s is a scope token: printable ASCII without space, quote
// and backslash, RFC 6749 section 3.3.
func isScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return s != ""
}

// Text returns the string that v is, and whether it is one.
func Text(v jsontext.Value) (string, bool) {
	if v.Kind() != jsontext.KindString {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

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
// Decode them by github.com/go-json-experiment/json, which compares names exactly and
// takes no name twice.
type Members struct {
	Issuer       Member `json:"iss"`
	Subject      Member `json:"sub"`
	ClientID     Member `json:"client_id"`
	TokenID      Member `json:"jti"`
	Audience     Member `json:"aud"`
	Scope        Member `json:"scope"`
	Expires      Member `json:"exp"`
	NotBefore    Member `json:"nbf"`
	IssuedAt     Member `json:"iat"`
	Confirmation Member `json:"cnf"`
}

// A Member is the JSON value of one claim, nil when the claim is absent. A claim that is
// null is absent too: many servers write null for what a token does not have.
type Member jsontext.Value

// UnmarshalJSONFrom reads one value.
func (m *Member) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	v, err := decoder.ReadValue()
	if err != nil {
		return err
	}
	if *m = nil; v.Kind() != jsontext.KindNull {
		*m = Member(v.Clone())
	}
	return nil
}

// Text returns the string that m is, and whether it is one.
func (m Member) Text() (string, bool) { return Text(jsontext.Value(m)) }

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
func confirmation(m Member) access.Confirmation {
	if m == nil {
		return access.Confirmation{}
	}
	c := access.Confirmation{Present: true}
	var members struct {
		Thumbprint Member            `json:"x5t#S256"`
		Others     map[string]Member `json:",embed"`
	}
	if jsontext.Value(m).Kind() != jsontext.KindBeginObject || json.Unmarshal(m, &members) != nil {
		return c
	}
	for _, other := range members.Others {
		if other != nil {
			return c
		}
	}
	s, ok := members.Thumbprint.Text()
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

func (r *claimReader) text(claim string, m Member) string {
	if m == nil {
		return ""
	}
	s, ok := m.Text()
	if !ok {
		r.fault(claim, "is no string")
	}
	return s
}

// texts reads a string or an array of strings, RFC 7519 section 4.1.3. An element that is
// null is a fault: it is no absent member.
func (r *claimReader) texts(claim string, m Member) []string {
	if m == nil {
		return nil
	}
	if one, ok := m.Text(); ok {
		return []string{one}
	}
	var elements []jsontext.Value
	if jsontext.Value(m).Kind() != jsontext.KindBeginArray || json.Unmarshal(m, &elements) != nil {
		r.fault(claim, "is neither a string nor an array of strings")
		return nil
	}
	all := make([]string, len(elements))
	for i, e := range elements {
		all[i] = r.text(claim, Member(e))
	}
	return all
}

// lastSecond is 9999-12-31T23:59:59Z, the last moment that RFC 3339 can write. A
// claim beyond it is a mistake, not a long life.
const lastSecond = 253_402_300_799

// time reads a NumericDate, RFC 7519 section 2: seconds since 1970, possibly with
// a fraction.
func (r *claimReader) time(claim string, m Member) time.Time {
	if m == nil {
		return time.Time{}
	}
	if jsontext.Value(m).Kind() != jsontext.KindNumber {
		r.fault(claim, "is no number")
		return time.Time{}
	}
	// Whole seconds up to lastSecond, 38 bits, are exact in 53 bits of mantissa.
	n, err := strconv.ParseFloat(string(m), 64)
	if err != nil || n < 0 || n > lastSecond {
		r.fault(claim, "is out of range")
		return time.Time{}
	}
	seconds, fraction := math.Modf(n)
	return time.Unix(int64(seconds), int64(fraction*1e9))
}

// scopes reads a scope claim: a string that is split at spaces, RFC 6749 section 3.3, or an
// array with one scope in each element, as some servers write it. What is no scope token,
// such as two scopes joined by a tab, is nobody's scope and left out; but a space in an
// element is a fault, since it leaves open whether that is one scope or two. A claim without
// any scope is not nil: it says that there are none. The scopes are parts of one text of
// their own, so that they keep in memory what [Bytes] counts and nothing else of the claim.
func (r *claimReader) scopes(m Member) []string {
	if m == nil {
		return nil
	}
	said := r.texts("scope", m)
	if jsontext.Value(m).Kind() == jsontext.KindString {
		said = strings.Split(said[0], " ")
	}
	all := []string{}
	for _, s := range said {
		if strings.Contains(s, " ") {
			r.fault("scope", "has an element with a space")
		}
		if isScope(s) {
			all = append(all, s)
		}
	}
	switch len(all) {
	case 0:
		return []string{}
	case 1: // which Join would return as it is, a part of the claim
		return []string{strings.Clone(all[0])}
	}
	return strings.Split(strings.Join(all, " "), " ")
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

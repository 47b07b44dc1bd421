package facts

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
)

// Members are the claims that the gate reads: RFC 7519 section 4.1, RFC 8693 sections 4.2 and
// 4.3, RFC 7800 section 3.1. JWTs and introspection responses (RFC 7662 section 2.2, RFC 8705
// section 3.2) use the same names. Decode Members with github.com/go-json-experiment/json, which
// compares names exactly and refuses duplicate names.
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

// A Member is the JSON value of a claim, nil when the claim is absent or null: many servers write
// null for an absent claim.
type Member jsontext.Value

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

// Text returns the string in m. ok is false if m is not a JSON string.
func (m Member) Text() (string, bool) { return Text(jsontext.Value(m)) }

// lastSecond is 9999-12-31T23:59:59Z, the last second that RFC 3339 can write. A later time is a
// mistake and not a long lifetime.
const lastSecond = 253_402_300_799

var (
	errNoNumber   = errors.New("is not a number")
	errOutOfRange = errors.New("is out of range")
)

// Time returns the time in m, a NumericDate (RFC 7519 section 2): seconds since 1970, with an optional
// fraction. It returns an error for another JSON value, and for a time before 1970 or after 9999.
func (m Member) Time() (time.Time, error) {
	if jsontext.Value(m).Kind() != jsontext.KindNumber {
		return time.Time{}, errNoNumber
	}
	// Whole seconds up to lastSecond, 38 bits, are exact in 53 bits of mantissa.
	n, err := strconv.ParseFloat(string(m), 64)
	if err != nil || n < 0 || n > lastSecond {
		return time.Time{}, errOutOfRange
	}
	seconds, fraction := math.Modf(n)
	return time.Unix(int64(seconds), int64(fraction*1e9)), nil
}

// Read returns the claims of a token. server is the name of the authorization server that issued the
// token. A claim of the wrong type makes the token malformed, and the error is an [access.Denial].
func (m *Members) Read(server string) (access.Unchecked, error) {
	var r claimReader
	u := access.Unchecked{
		Server:       server,
		Issuer:       r.text("iss", m.Issuer),
		Subject:      r.text("sub", m.Subject),
		ClientID:     r.text("client_id", m.ClientID),
		TokenID:      r.text("jti", m.TokenID),
		Audience:     r.list("aud", m.Audience),
		Scopes:       oneString(r.scopes("scope", m.Scope)),
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

// confirmation reads a cnf claim (RFC 7800 section 3.1). Present is set for a cnf of any form, so a
// token with a cnf is never taken for a bearer token. The thumbprints are set only if cnf is an object
// with a well-formed x5t#S256 (RFC 8705 section 3.1), a well-formed jkt (RFC 9449 section 6.1), or
// both, and with no other members: any other member is a binding that the gate does not check.
// Otherwise the thumbprints are zero, and a zero thumbprint matches no certificate and no key.
func confirmation(m Member) access.Confirmation {
	if m == nil {
		return access.Confirmation{}
	}
	malformed := access.Confirmation{Present: true}
	var members struct {
		Thumbprint Member            `json:"x5t#S256"`
		Key        Member            `json:"jkt"`
		Others     map[string]Member `json:",embed"`
	}
	if jsontext.Value(m).Kind() != jsontext.KindBeginObject || json.Unmarshal(m, &members) != nil {
		return malformed
	}
	for _, other := range members.Others {
		if other != nil {
			return malformed
		}
	}
	c := malformed
	if !readThumbprint(&c.Thumbprint, members.Thumbprint) || !readThumbprint(&c.Key, members.Key) {
		return malformed
	}
	return c
}

// readThumbprint sets t to the thumbprint in m and reports whether m is absent or well-formed.
func readThumbprint(t *access.Thumbprint, m Member) bool {
	if m == nil {
		return true
	}
	s, ok := m.Text()
	if !ok {
		return false
	}
	var err error
	*t, err = access.ParseThumbprint(s)
	return err == nil
}

// A claimReader converts claims to Go values and keeps the first error. An absent claim gives the
// zero value and no error.
type claimReader struct{ err error }

func (r *claimReader) fail(claim, problem string) {
	if r.err == nil {
		r.err = fmt.Errorf("claim %s %s", claim, problem)
	}
}

func (r *claimReader) text(claim string, m Member) string {
	if m == nil {
		return ""
	}
	s, ok := m.Text()
	if !ok {
		r.fail(claim, "is not a string")
	}
	return s
}

// list reads a string or an array of strings (RFC 7519 section 4.1.3). A null element is an error. null
// stands for an absent value only as the value of a whole claim.
func (r *claimReader) list(claim string, m Member) []string {
	if m == nil {
		return nil
	}
	if one, ok := m.Text(); ok {
		return []string{one}
	}
	var elements []jsontext.Value
	if jsontext.Value(m).Kind() != jsontext.KindBeginArray || json.Unmarshal(m, &elements) != nil {
		r.fail(claim, "is neither a string nor an array of strings")
		return nil
	}
	all := make([]string, len(elements))
	for i, e := range elements {
		all[i] = r.text(claim, Member(e))
	}
	return all
}

func (r *claimReader) time(claim string, m Member) time.Time {
	if m == nil {
		return time.Time{}
	}
	t, err := m.Time()
	if err != nil {
		r.fail(claim, err.Error())
	}
	return t
}

// scopes reads a claim with scopes: a string, split at spaces (RFC 6749 section 3.3), or an array with
// one scope in each element, as some servers send it. The result omits values that are no scope tokens,
// such as two scopes joined by a tab, because no route can require them. An element with a space is an
// error, because the element may mean one scope or two. If the claim has no scopes, the result is empty
// but not nil.
func (r *claimReader) scopes(claim string, m Member) []string {
	if m == nil {
		return nil
	}
	values := r.list(claim, m)
	if jsontext.Value(m).Kind() == jsontext.KindString {
		values = strings.Split(values[0], " ")
	}
	all := values[:0]
	for _, s := range values {
		if strings.Contains(s, " ") {
			r.fail(claim, "has an element with a space")
		}
		if isScope(s) {
			all = append(all, s)
		}
	}
	if all == nil {
		return []string{}
	}
	return all
}

// oneString returns scopes as slices of one new string. Slices of the claim would keep the whole claim
// in memory, and [Bytes] counts only the scopes.
func oneString(scopes []string) []string {
	switch {
	case scopes == nil:
		return nil
	case len(scopes) == 0: // scopes may be the beginning of a long list, so an empty slice replaces it
		return []string{}
	case len(scopes) == 1: // Join would return a slice of the claim for a single scope
		return []string{strings.Clone(scopes[0])}
	}
	return strings.Split(strings.Join(scopes, " "), " ")
}

// isScope reports whether s is a scope token, RFC 6749 section 3.3: printable ASCII without
// space, quote and backslash.
func isScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return s != ""
}

// Text returns the string in v. ok is false if v is not a JSON string.
func Text(v jsontext.Value) (string, bool) {
	if v.Kind() != jsontext.KindString {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

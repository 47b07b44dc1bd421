package facts

import (
	"bytes"
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A Mapping says which claims of a server's tokens name the client, the subject, the audience, the
// scopes and the confirmation. A nil Mapping stands for the claim names of RFC 9068 and RFC 8705. A
// Mapping is immutable and safe for concurrent use.
type Mapping struct {
	client, audience, scope []string // names of claims, in the order in which they are tried
	subject                 string
	scopePrefix             string
	roles                   string // "": roles are not read
	rolesOfApplications     bool   // roles are scopes only in a token without scopes
	ext                     bool   // the confirmation may be in the member cnf of the claim ext
}

// NewMapping returns the mapping of the server that settings describes.
func NewMapping(settings *config.AuthorizationServer) *Mapping {
	m := &Mapping{
		client: names(settings.ClientClaim, "client_id"), audience: names(settings.AudienceClaim, "aud"),
		scope: []string{cmp.Or(string(settings.ScopeClaim), "scope")}, subject: cmp.Or(string(settings.SubjectClaim), "sub"),
		scopePrefix: settings.ScopePrefix, roles: string(settings.RolesAsScopes),
		rolesOfApplications: settings.RolesAsScopes != "" && (settings.Profile == config.ProfileEntra || settings.Profile == config.ProfileEntraV1),
		ext:                 settings.ConfirmationClaim == config.ExtCNF,
	}
	standard := &Mapping{client: []string{"client_id"}, audience: []string{"aud"}, scope: []string{"scope"}, subject: "sub"}
	if reflect.DeepEqual(m, standard) {
		return nil
	}
	return m
}

func names(list []config.ClaimName, standard string) []string {
	if len(list) == 0 {
		return []string{standard}
	}
	all := make([]string, len(list))
	for i, n := range list {
		all[i] = string(n)
	}
	return all
}

// ForResponses returns the mapping of the server's introspection responses. RFC 7662 section 2.2
// defines the members client_id and scope, so they are read first, before the members with the server's
// own names.
func (m *Mapping) ForResponses() *Mapping {
	if m == nil {
		return nil
	}
	r := *m
	if !slices.Contains(m.client, "sub") && !slices.Contains(m.client, "client_id") {
		r.client = append([]string{"client_id"}, m.client...)
	}
	if !slices.Contains(m.scope, "scope") {
		r.scope = append([]string{"scope"}, m.scope...)
	}
	return &r
}

// Read returns the claims of a token. server is the name of the authorization server that issued the
// token. members and document are the same JSON object. The error is an [access.Denial]: a claim has
// the wrong type, or the claims of the token name two clients.
func (m *Mapping) Read(server string, members *Members, document jsontext.Value) (access.Unchecked, error) {
	if m == nil {
		return members.Read(server)
	}
	found, err := Select(document, slices.Concat(m.client, m.audience, m.scope, []string{m.subject, m.roles, "ext"})...)
	if err != nil {
		return access.Unchecked{}, access.Denyf(access.MalformedToken, "reading claims: %w", err)
	}
	delete(found, "") // a configured "" means that no claim is read, and not the claim ""
	var r claimReader
	standard := *members
	standard.ClientID, standard.Audience, standard.Subject, standard.Scope = nil, nil, nil, nil
	u, err := standard.Read(server)
	if err != nil {
		return u, err
	}
	u.ClientID = r.onlyText(found, m.client)
	u.Subject = r.text(m.subject, found[m.subject])
	audience := present(found, m.audience)
	u.Audience = r.list(audience, found[audience])
	u.Scopes = m.scopes(&r, found)
	if m.ext {
		u.Confirmation = both(u.Confirmation, extConfirmation(found["ext"]))
	}
	if r.err != nil {
		return access.Unchecked{}, &access.Denial{Reason: access.MalformedToken, ClientID: u.ClientID, Err: r.err}
	}
	return u, nil
}

// present returns the first claim in claims that is present, or "".
func present(found map[string]Member, claims []string) string {
	for _, claim := range claims {
		if found[claim] != nil {
			return claim
		}
	}
	return ""
}

// onlyText returns the string that the present claims in claims have in common. Claims with different
// values are an error, because otherwise the order of claims would decide which client calls.
func (r *claimReader) onlyText(found map[string]Member, claims []string) (text string) {
	from := ""
	for _, claim := range claims {
		if found[claim] == nil {
			continue
		}
		switch s := r.text(claim, found[claim]); {
		case from == "":
			text, from = s, claim
		case s != text:
			r.fail(claim, "names another client than claim "+from)
		}
	}
	return text
}

// scopes returns the scopes of the scope claim without their prefix, and the roles that are read as
// scopes. A token of Entra with scopes is issued for a user, so its roles are the roles of the user and
// say nothing about the application that calls.
func (m *Mapping) scopes(r *claimReader, found map[string]Member) []string {
	claim := present(found, m.scope)
	scopes := r.scopes(claim, found[claim])
	if m.scopePrefix != "" {
		scopes = slices.DeleteFunc(scopes, func(s string) bool { return !strings.HasPrefix(s, m.scopePrefix) || s == m.scopePrefix })
		for i, s := range scopes {
			scopes[i] = s[len(m.scopePrefix):]
		}
	}
	if roles := found[m.roles]; m.roles != "" && roles != nil && (claim == "" || !m.rolesOfApplications) {
		for _, role := range r.list(m.roles, roles) {
			if isScope(role) && !slices.Contains(scopes, role) { // a role with a space is a display name
				scopes = append(scopes, role)
			}
		}
		if scopes == nil {
			scopes = []string{}
		}
	}
	return oneString(scopes)
}

// extConfirmation reads the member cnf of the claim ext.
func extConfirmation(ext Member) access.Confirmation {
	var members struct {
		Confirmation Member `json:"cnf"`
	}
	if jsontext.Value(ext).Kind() != jsontext.KindBeginObject || json.Unmarshal(ext, &members) != nil {
		return access.Confirmation{}
	}
	return confirmation(members.Confirmation)
}

// both returns the confirmation of a token that may have a confirmation in each of two claims. If both
// claims have a confirmation and the two differ, the result matches no certificate.
func both(a, b access.Confirmation) access.Confirmation {
	switch {
	case !a.Present:
		return b
	case !b.Present || a == b:
		return a
	}
	return access.Confirmation{Present: true}
}

// Select returns the members of a JSON object whose name is in names and that are not null.
func Select(object jsontext.Value, names ...string) (map[string]Member, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(object))
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	found := make(map[string]Member, len(names))
	for d.PeekKind() == jsontext.KindString {
		key, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		if key := key.String(); slices.Contains(names, key) {
			var m Member
			if err := m.UnmarshalJSONFrom(d); err != nil {
				return nil, err
			}
			if m != nil {
				found[key] = m
			}
		} else if err := d.SkipValue(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

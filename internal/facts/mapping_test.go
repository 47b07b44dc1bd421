package facts

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// The thumbprints of two certificates.
const (
	ours   = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"
	theirs = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"
)

// read returns the claims of a token or a response by the mapping of the settings.
func read(t *testing.T, document string, response bool, settings config.AuthorizationServer) (access.Unchecked, error) {
	t.Helper()
	var members Members
	if err := json.Unmarshal([]byte(document), &members); err != nil {
		t.Fatal(err)
	}
	mapping := NewMapping(&settings)
	if response {
		mapping = mapping.ForResponses()
	}
	return mapping.Read("as", &members, jsontext.Value(document))
}

// Each claim is read by its configured name, and a claim of another name has no meaning.
func TestMapping(t *testing.T) {
	type settings = config.AuthorizationServer
	azp := settings{ClientClaim: []config.ClaimName{"client_id", "azp"}}
	scp := settings{ScopeClaim: "scp"}
	roles := settings{ScopeClaim: "scp", RolesAsScopes: "roles"}
	prefix := settings{ScopePrefix: "orders/"}
	cognito := settings{AudienceClaim: []config.ClaimName{"aud", "client_id"}}
	for _, tt := range []struct {
		name, document string
		settings       settings
		want           access.Unchecked
	}{
		{"RFC 9068", `{"client_id":"a","azp":"b","sub":"s","uid":"u","aud":"x","scope":"r w","scp":["q"],"roles":["z"]}`, settings{},
			access.Unchecked{ClientID: "a", Subject: "s", Audience: []string{"x"}, Scopes: []string{"r", "w"}}},
		{"azp alone", `{"azp":"b"}`, azp, access.Unchecked{ClientID: "b"}},
		{"client_id alone", `{"client_id":"a"}`, azp, access.Unchecked{ClientID: "a"}},
		{"client_id null", `{"client_id":null,"azp":"b"}`, azp, access.Unchecked{ClientID: "b"}},
		{"azp null", `{"client_id":"a","azp":null}`, azp, access.Unchecked{ClientID: "a"}},
		{"both equal", `{"client_id":"a","azp":"a"}`, azp, access.Unchecked{ClientID: "a"}},
		{"none", `{"cid":"a"}`, azp, access.Unchecked{}},
		{"client_id where azp is configured alone", `{"client_id":"a"}`, settings{ClientClaim: []config.ClaimName{"azp"}}, access.Unchecked{}},
		{"sub as the client", `{"sub":"a","client_id":"b"}`, settings{ClientClaim: []config.ClaimName{"sub"}}, access.Unchecked{ClientID: "a", Subject: "a"}},
		{"name with a dot", `{"https://x.example/client":"a"}`, settings{ClientClaim: []config.ClaimName{"https://x.example/client"}}, access.Unchecked{ClientID: "a"}},
		{"subject", `{"sub":"s","uid":"u"}`, settings{SubjectClaim: "uid"}, access.Unchecked{Subject: "u"}},
		{"subject null", `{"sub":"s","uid":null}`, settings{SubjectClaim: "uid"}, access.Unchecked{}},

		{"scp string", `{"scp":"r w","scope":"x"}`, scp, access.Unchecked{Scopes: []string{"r", "w"}}},
		{"scp array", `{"scp":["r","w"]}`, scp, access.Unchecked{Scopes: []string{"r", "w"}}},
		{"scp null", `{"scp":null,"scope":"x"}`, scp, access.Unchecked{}},
		{"scp empty", `{"scp":[]}`, scp, access.Unchecked{Scopes: []string{}}},
		{"roles alone", `{"roles":["r","w"]}`, roles, access.Unchecked{Scopes: []string{"r", "w"}}},
		{"roles beside scp", `{"scp":"r","roles":["w","r","a role"]}`, roles, access.Unchecked{Scopes: []string{"r", "w"}}},
		{"roles string", `{"roles":"w"}`, roles, access.Unchecked{Scopes: []string{"w"}}},
		{"roles null", `{"scp":"r","roles":null}`, roles, access.Unchecked{Scopes: []string{"r"}}},
		{"roles empty", `{"roles":[]}`, roles, access.Unchecked{Scopes: []string{}}},
		{"roles unasked", `{"scp":"r","roles":["w"]}`, scp, access.Unchecked{Scopes: []string{"r"}}},
		{"roles of an application", `{"roles":["w"]}`, settings{Profile: config.ProfileEntra, ScopeClaim: "scp", RolesAsScopes: "roles"}, access.Unchecked{Scopes: []string{"w"}}},
		{"roles of a user", `{"scp":"r","roles":["w"]}`, settings{Profile: config.ProfileEntraV1, ScopeClaim: "scp", RolesAsScopes: "roles"}, access.Unchecked{Scopes: []string{"r"}}},
		{"roles of a user without scopes", `{"scp":"","roles":["w"]}`, settings{Profile: config.ProfileEntra, ScopeClaim: "scp", RolesAsScopes: "roles"}, access.Unchecked{Scopes: []string{}}},
		{"prefix", `{"scope":"orders/read read billing/write orders/ orders/orders/x"}`, prefix, access.Unchecked{Scopes: []string{"read", "orders/x"}}},
		{"prefix and roles", `{"scope":"read orders/write","roles":["read"]}`, settings{ScopePrefix: "orders/", RolesAsScopes: "roles"}, access.Unchecked{Scopes: []string{"write", "read"}}},

		{"aud", `{"aud":["x"],"client_id":"a"}`, cognito, access.Unchecked{ClientID: "a", Audience: []string{"x"}}},
		{"aud empty", `{"aud":[],"client_id":"a"}`, cognito, access.Unchecked{ClientID: "a", Audience: []string{}}},
		{"client_id as the audience", `{"client_id":"a"}`, cognito, access.Unchecked{ClientID: "a", Audience: []string{"a"}}},
		{"aud null", `{"aud":null,"client_id":"a"}`, cognito, access.Unchecked{ClientID: "a", Audience: []string{"a"}}},
		{"a claim without a name", `{"":"x"}`, cognito, access.Unchecked{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Server = "as"
			got, err := read(t, tt.document, false, tt.settings)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Read of %s (-want +got):\n%s", tt.document, diff)
			}
		})
	}
}

// A claim of the wrong type makes the token malformed, also if the claim has a configured name. So
// do two claims that name two clients, in any order: the order of the configuration must not
// choose.
func TestMappingRefuses(t *testing.T) {
	settings := config.AuthorizationServer{
		ClientClaim: []config.ClaimName{"client_id", "azp"}, SubjectClaim: "uid", ScopeClaim: "scp", RolesAsScopes: "roles",
		AudienceClaim: []config.ClaimName{"aud", "client_id"},
	}
	for document, want := range map[string]string{
		`{"client_id":"a","azp":"b"}`:     "claim azp names another client than claim client_id",
		`{"azp":"b","client_id":"a"}`:     "claim azp names another client than claim client_id",
		`{"client_id":"a","azp":"A"}`:     "claim azp names another client than claim client_id",
		`{"client_id":"","azp":"b"}`:      "claim azp names another client than claim client_id",
		`{"client_id":"a","azp":["a"]}`:   "claim azp is not a string",
		`{"azp":5}`:                       "claim azp is not a string",
		`{"client_id":["a"],"aud":["x"]}`: "claim client_id is not a string",
		`{"uid":{}}`:                      "claim uid is not a string",
		`{"scp":5}`:                       "claim scp is neither a string nor an array of strings",
		`{"scp":["a b"]}`:                 "claim scp has an element with a space",
		`{"scp":["a",null]}`:              "claim scp is not a string",
		`{"roles":{"realm":["x"]}}`:       "claim roles is neither a string nor an array of strings",
		`{"roles":[5]}`:                   "claim roles is not a string",
		`{"exp":"5"}`:                     "claim exp is not a number",
	} {
		for _, response := range []bool{false, true} {
			_, err := read(t, document, response, settings)
			if access.ReasonOf(err) != access.MalformedToken || !strings.Contains(err.Error(), want) {
				t.Errorf("Read of %s = %v, want malformed_token with %q", document, err, want)
			}
		}
	}
}

// A confirmation under ext binds like cnf, and cannot replace a cnf that differs.
func TestExtConfirmation(t *testing.T) {
	bound := func(thumbprint string) string { return `{"x5t#S256":"` + thumbprint + `"}` }
	right, err := access.ParseThumbprint(ours)
	if err != nil {
		t.Fatal(err)
	}
	one, malformed, none := access.Confirmation{Present: true, Thumbprint: right}, access.Confirmation{Present: true}, access.Confirmation{}
	for document, want := range map[string]access.Confirmation{
		`{"ext":{"cnf":` + bound(ours) + `}}`:                                       one,
		`{"cnf":` + bound(ours) + `}`:                                               one,
		`{"cnf":` + bound(ours) + `,"ext":{"cnf":` + bound(ours) + `}}`:             one,
		`{"cnf":` + bound(ours) + `,"ext":{"cnf":` + bound(theirs) + `}}`:           malformed,
		`{"cnf":{},"ext":{"cnf":` + bound(ours) + `}}`:                              malformed,
		`{"cnf":` + bound(ours) + `,"ext":{"cnf":{}}}`:                              malformed,
		`{"cnf":` + bound(ours) + `,"ext":{"cnf":null}}`:                            one,
		`{"ext":{"cnf":"x"}}`:                                                       malformed,
		`{"ext":{"cnf":{"x5t#S256":"` + ours + `","jkt":"x"}}}`:                     malformed,
		`{"ext":{"cnf":null}}`:                                                      none,
		`{"ext":null}`:                                                              none,
		`{"ext":"cnf"}`:                                                             none,
		`{"ext":[{"cnf":` + bound(ours) + `}]}`:                                     none,
		`{"ext.cnf":` + bound(ours) + `,"ext":{"ext":{"cnf":` + bound(ours) + `}}}`: none,
	} {
		got, err := read(t, document, false, config.AuthorizationServer{ConfirmationClaim: config.ExtCNF})
		if err != nil || got.Confirmation != want {
			t.Errorf("Read of %s has confirmation %+v, %v, want %+v", document, got.Confirmation, err, want)
		}
	}
	got, err := read(t, `{"ext":{"cnf":`+bound(ours)+`}}`, false, config.AuthorizationServer{})
	if err != nil || got.Confirmation != none {
		t.Errorf("confirmation = %+v, %v, want none without the setting", got.Confirmation, err)
	}
}

// In introspection responses the names of RFC 7662 take precedence over the server's own names.
func TestMappingOfResponses(t *testing.T) {
	okta := config.AuthorizationServer{ClientClaim: []config.ClaimName{"cid"}, ScopeClaim: "scp"}
	for document, want := range map[string]access.Unchecked{
		`{"client_id":"a","scope":"r w"}`:                     {ClientID: "a", Scopes: []string{"r", "w"}},
		`{"cid":"a","scp":["r","w"]}`:                         {ClientID: "a", Scopes: []string{"r", "w"}},
		`{"client_id":null,"cid":"a","scope":null}`:           {ClientID: "a"},
		`{"client_id":"a","cid":"a","scope":"r","scp":["w"]}`: {ClientID: "a", Scopes: []string{"r"}},
	} {
		want.Server = "as"
		got, err := read(t, document, true, okta)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Read of %s (-want +got):\n%s", document, diff)
		}
	}
	if _, err := read(t, `{"client_id":"a","cid":"b"}`, true, okta); access.ReasonOf(err) != access.MalformedToken {
		t.Errorf("Read of two clients = %v, want malformed_token", err)
	}
	sub := config.AuthorizationServer{ClientClaim: []config.ClaimName{"sub"}}
	if got, err := read(t, `{"sub":"a","client_id":"b"}`, true, sub); err != nil || got.ClientID != "a" {
		t.Errorf("client = %q, %v, want the sub that is configured alone", got.ClientID, err)
	}
}

// Whatever a token says, the client is the value of each client claim that it has.
func FuzzMapping(f *testing.F) {
	for _, seed := range []string{
		`{"client_id":"a","azp":"a"}`, `{"client_id":"a","azp":"b"}`, `{"client_id":null,"azp":"b","scp":["r"],"roles":["w"]}`,
		`{"ext":{"cnf":{"x5t#S256":"` + ours + `"}},"cnf":{}}`, `{"":"x","aud":[],"scope":"orders/read"}`, `{"azp":5}`,
	} {
		f.Add([]byte(seed))
	}
	settings := config.AuthorizationServer{
		ClientClaim: []config.ClaimName{"client_id", "azp"}, AudienceClaim: []config.ClaimName{"aud", "client_id"}, ScopeClaim: "scp", ScopePrefix: "orders/",
		RolesAsScopes: "roles", ConfirmationClaim: config.ExtCNF,
	}
	mapping := NewMapping(&settings)
	f.Fuzz(func(t *testing.T, document []byte) {
		var members Members
		var all map[string]any
		if json.Unmarshal(document, &members) != nil || json.Unmarshal(document, &all) != nil || all == nil {
			return
		}
		u, err := mapping.Read("as", &members, document)
		if err != nil {
			return
		}
		for _, claim := range []string{"client_id", "azp"} {
			if v := all[claim]; v != nil && v != u.ClientID {
				t.Errorf("Read of %s has the client %q, and claim %s is %v", document, u.ClientID, claim, v)
			}
		}
		if u.ClientID != "" && all["client_id"] == nil && all["azp"] == nil {
			t.Errorf("Read of %s has the client %q of no claim", document, u.ClientID)
		}
	})
}

// The mapping of RFC 9068 is nil, so that its tokens are read once.
func TestStandardMapping(t *testing.T) {
	for _, s := range []config.AuthorizationServer{
		{},
		{ClientClaim: []config.ClaimName{"client_id"}, AudienceClaim: []config.ClaimName{"aud"}, SubjectClaim: "sub", ScopeClaim: "scope", ConfirmationClaim: config.CNF, Leeway: time.Second},
	} {
		if m := NewMapping(&s); m != nil {
			t.Errorf("NewMapping = %+v, want nil", m)
		}
	}
}

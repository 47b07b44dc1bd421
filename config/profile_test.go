package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// issuers are the issuers of the profiles that need a tenant.
var issuers = map[Profile]string{ //nolint:exhaustive // the other profiles need none
	ProfileEntra:   "https://login.microsoftonline.com/6e74172b-be56-4843-9ff4-e66a39bb12e3/v2.0",
	ProfileEntraV1: "https://sts.windows.net/6e74172b-be56-4843-9ff4-e66a39bb12e3/",
}

// withServer returns the smallest valid configuration with settings added to its server.
func withServer(t *testing.T, settings string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/good-minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(text), "    key_set:", settings+"    key_set:", 1)
}

// A profile sets every setting that it has a default for, and no other setting.
func TestProfileDefaults(t *testing.T) {
	for p, want := range profiles {
		t.Run(string(p), func(t *testing.T) {
			text := withServer(t, fmt.Sprintf("    profile: %s\n", p))
			if issuer := issuers[p]; issuer != "" {
				text = strings.Replace(text, "https://as.example.com\n", issuer+"\n", 1)
			}
			c, err := Parse("file.yaml", "", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			s := c.AuthorizationServers[0]
			d := p.defaults()
			got := profileDefaults{s.Algorithms, s.Types, s.ClientClaim, s.AudienceClaim, s.ScopeClaim, s.RolesAsScopes, s.ConfirmationClaim}
			if !reflect.DeepEqual(got, d) {
				t.Errorf("settings with profile %s = %+v, want %+v", p, got, d)
			}
			if want.types != nil && !reflect.DeepEqual(s.Types, want.types) || len(s.ClientClaim) == 0 || s.ScopeClaim == "" || s.SubjectClaim != "sub" {
				t.Errorf("settings with profile %s = %+v, want those of its row", p, got)
			}
		})
	}
}

// Each setting of a profile can be overruled without the others.
func TestProfileOverruled(t *testing.T) {
	for setting, change := range map[string]func(*AuthorizationServer){
		"algorithms: [ES384]":         func(s *AuthorizationServer) { s.Algorithms = []Algorithm{ES384} },
		"types: [at+jwt]":             func(s *AuthorizationServer) { s.Types = []string{"at+jwt"} },
		"client_claim: [sub]":         func(s *AuthorizationServer) { s.ClientClaim = []ClaimName{"sub"} },
		"subject_claim: uid":          func(s *AuthorizationServer) { s.SubjectClaim = "uid" },
		"audience_claim: [cid]":       func(s *AuthorizationServer) { s.AudienceClaim = []ClaimName{"cid"} },
		"scope_claim: permissions":    func(s *AuthorizationServer) { s.ScopeClaim = "permissions" },
		"scope_prefix: 'orders/'":     func(s *AuthorizationServer) { s.ScopePrefix = "orders/" },
		"roles_as_scopes: roles":      func(s *AuthorizationServer) { s.RolesAsScopes = "roles" },
		"confirmation_claim: ext.cnf": func(s *AuthorizationServer) { s.ConfirmationClaim = ExtCNF },
	} {
		t.Run(setting, func(t *testing.T) {
			c, err := Parse("file.yaml", "", []byte(withServer(t, "    profile: okta\n")))
			if err != nil {
				t.Fatal(err)
			}
			want := c.AuthorizationServers[0]
			change(&want)
			c, err = Parse("file.yaml", "", []byte(withServer(t, "    "+setting+"\n    profile: okta\n")))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, c.AuthorizationServers[0]); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

// No profile names the client by sub: a user may choose it. No profile accepts ES256K or less.
func TestProfilesNameNoUser(t *testing.T) {
	for p := range profiles {
		for _, c := range p.defaults().clientClaim {
			if c == "sub" || c == "aud" {
				t.Errorf("profile %s names the client by %s, want a claim that only the server sets", p, c)
			}
		}
	}
}

// AD FS has no tenants, so its issuer needs no GUID.
func TestADFS(t *testing.T) {
	text := strings.Replace(withServer(t, "    profile: entra-v1\n"), "issuer: https://as.example.com", "issuer: https://login.example.com/adfs", 1)
	if _, err := Parse("file.yaml", "", []byte(text)); err != nil {
		t.Errorf("Parse = %v, want no error", err)
	}
}

// The issuers of Entra's clouds and products name one tenant, and other issuers are refused.
func TestEntraIssuers(t *testing.T) {
	const tenant = "6e74172b-be56-4843-9ff4-e66a39bb12e3"
	for issuer, want := range map[string]bool{
		"https://login.microsoftonline.com/" + tenant + "/v2.0":           true,
		"https://login.microsoftonline.us/" + tenant + "/v2.0":            true,
		"https://login.partner.microsoftonline.cn/" + tenant + "/v2.0":    true,
		"https://" + tenant + ".ciamlogin.com/" + tenant + "/v2.0":        true,
		"https://example.b2clogin.com/" + tenant + "/v2.0/":               true,
		"https://login.microsoftonline.com/organizations/v2.0":            false,
		"https://login.microsoftonline.com/consumers/v2.0":                false,
		"https://login.microsoftonline.com/example.onmicrosoft.com/v2.0":  false,
		"https://login.microsoftonline.com/%7Btenantid%7D/v2.0":           false,
		"https://login.microsoftonline.com/" + tenant:                     false,
		"https://login.microsoftonline.com/" + tenant + "x/v2.0":          false,
		"https://login.microsoftonline.com/" + tenant + "/../common/v2.0": false,
		"https://login.microsoftonline.com/common/" + tenant + "/v2.0":    false,
	} {
		text := strings.Replace(withServer(t, "    profile: entra\n"), "https://as.example.com\n", issuer+"\n", 1)
		if _, err := Parse("file.yaml", "", []byte(text)); (err == nil) != want {
			t.Errorf("Parse with issuer %s = %v, want it accepted: %t", issuer, err, want)
		}
	}
}

// With the partners named, several servers may name clients by other claims than client_id.
func TestClientClaimOfSeveralServers(t *testing.T) {
	text := withServer(t, "    key_set: {file: jwks.json}\n  - name: staff\n    profile: keycloak\n    partners: [northwind]\n    issuer: https://login.example.com/realms/staff\n    audiences: [https://api.example.com]\n")
	if _, err := Parse("file.yaml", "", []byte(text)); err != nil {
		t.Errorf("Parse = %v, want no error", err)
	}
}

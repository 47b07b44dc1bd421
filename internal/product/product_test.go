package product

import (
	"testing"

	"github.com/tallygate/tallygate/config"
)

// The issuer identifies the product.
func TestProducts(t *testing.T) {
	for issuer, want := range map[string]config.Profile{
		"https://login.microsoftonline.com/6e74172b-be56-4843-9ff4-e66a39bb12e3/v2.0": config.ProfileEntra,
		"https://sts.windows.net/6e74172b-be56-4843-9ff4-e66a39bb12e3/":               config.ProfileEntraV1,
		"https://login.example.com/adfs":                                              config.ProfileEntraV1,
		"https://northwind.okta.com/oauth2/default":                                   config.ProfileOkta,
		"https://northwind.eu.auth0.com/":                                             config.ProfileAuth0,
		"https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abc":             config.ProfileCognito,
		"https://other.amazonaws.com":                                                 config.Profile(""),
		"https://login.example.com/realms/partners":                                   config.ProfileKeycloak,
		"https://sso.example.com:8443/am/oauth2/realms/root":                          config.ProfilePing,
		"https://login.example.com/oauth/v2/oauth-anonymous":                          config.ProfileCurity,
		"https://okta.com.mallory.example":                                            config.Profile(""),
		"https://as.example.com":                                                      config.Profile(""),
	} {
		p := Guess(issuer, nil)
		if p.Profile != want || p.Bind == "" {
			t.Errorf("Guess(%q, nil) = %q, %q, want profile %q and an advice", issuer, p.Profile, p.Bind, want)
		}
	}
}

// Claims identify the product if the operator has chosen the name in the issuer.
func TestProductsByClaims(t *testing.T) {
	for _, test := range []struct {
		claims Claims
		want   config.Profile
	}{
		{Claims{"tid": "6e74172b", "ver": "1.0", "appid": "a"}, config.ProfileEntraV1},
		{Claims{"appid": "a"}, config.ProfileEntraV1},
		{Claims{"tid": "6e74172b", "ver": "2.0", "azp": "a"}, config.ProfileEntra},
		{Claims{"cid": "a", "scp": ""}, config.ProfileOkta},
		{Claims{"gty": "client-credentials", "azp": "a"}, config.ProfileAuth0},
		{Claims{"token_use": "access", "client_id": "a"}, config.ProfileCognito},
		{Claims{"token_use": "id", "aud": "a"}, ""},
		{Claims{"azp": "a", "acr": "1"}, config.ProfileKeycloak},
		{Claims{"resource_access": ""}, config.ProfileKeycloak},
		{Claims{"ext": ""}, config.ProfileHydra},
		{Claims{"scp": "", "client_id": "a"}, config.ProfileHydra},
		{Claims{"delegationId": "1"}, config.ProfileCurity},
		{Claims{PingATM: "1", "client_id": "a"}, config.ProfilePing},
		{Claims{"client_id": "a", "aud": "b"}, ""},
	} {
		if got := Guess("https://as.example.com", test.claims).Profile; got != test.want {
			t.Errorf("Guess(https://as.example.com, %v).Profile = %q, want %q", test.claims, got, test.want)
		}
	}
}

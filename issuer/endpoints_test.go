package issuer_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// RFC 8414 sections 2 and 3, RFC 8705 sections 3.3 and 5, T-AS-13.
func TestMetadata(t *testing.T) {
	tests := []struct{ name, path, wellKnown, base string }{
		{"host alone", "", "/.well-known/oauth-authorization-server", ""},
		{"slash at the end (s3.1)", "/", "/.well-known/oauth-authorization-server", ""},
		{"path", "/tenant/one", "/.well-known/oauth-authorization-server/tenant/one", "/tenant/one"},
		{"path, slash at the end", "/tenant/", "/.well-known/oauth-authorization-server/tenant", "/tenant"},
		{"escaped path", "/a%20b", "/.well-known/oauth-authorization-server/a%20b", "/a%20b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newHarness(t, test.path)
			a := s.send(nil, "GET", test.wellKnown, nil, "")
			const methods, endpoints = `["tls_client_auth","self_signed_tls_client_auth"]`,
				`"token_endpoint":"BASE/token","introspection_endpoint":"BASE/introspect","revocation_endpoint":"BASE/revoke","revocation_feed_endpoint":"BASE/revocations"`
			want := strings.ReplaceAll(`{"issuer":"IDENTIFIER",`+endpoints+`,"jwks_uri":"BASE/jwks",`+
				`"response_types_supported":[],"grant_types_supported":["client_credentials"],`+
				`"token_endpoint_auth_methods_supported":`+methods+`,"introspection_endpoint_auth_methods_supported":`+methods+
				`,"revocation_endpoint_auth_methods_supported":`+methods+`,"introspection_signing_alg_values_supported":["ES256"],`+
				`"tls_client_certificate_bound_access_tokens":true,"mtls_endpoint_aliases":{`+endpoints+`},"dpop_signing_alg_values_supported":["ES256","PS256","EdDSA"]}`, "BASE", s.url+test.base)
			want = strings.ReplaceAll(want, "IDENTIFIER", s.identifier)
			if a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.body != want+"\n" {
				t.Fatalf("got %d %v %s\nwant %s", a.status, a.header, a.body, want)
			}

			if openID := s.send(nil, "GET", test.base+"/.well-known/openid-configuration", nil, ""); openID.body != a.body {
				t.Errorf("openid-configuration: got %d %s, want the same metadata", openID.status, openID.body)
			}

			var m struct {
				Issuer  string
				KeySet  string            `json:"jwks_uri"`
				Aliases map[string]string `json:"mtls_endpoint_aliases"`
			}
			if err := json.Unmarshal([]byte(a.body), &m); err != nil {
				t.Fatal(err)
			}
			g := s.granted(s.send(ledger, "POST", m.Aliases["token_endpoint"], form.Clone(), good))
			if p := s.verify(g.Token); p.Issuer != m.Issuer {
				t.Errorf("got iss %q, want the issuer in the metadata, %q", p.Issuer, m.Issuer)
			}
			s.send(ledger, "POST", m.Aliases["revocation_endpoint"], form.Clone(), "token="+g.Token+byLedger)
			if !s.revoked(s.verify(g.Token).ID) {
				t.Error("the revocation endpoint in the metadata has not revoked the token")
			}
			if got := s.send(nil, "GET", m.KeySet, nil, ""); got.status != 200 || got.body != s.keySet()+"\n" {
				t.Errorf("jwks_uri: got %d %s, want the key set", got.status, got.body)
			}
		})
	}
}

// RFC 8414 section 3: the well-known path is between host and path only.
func TestWellKnownElsewhere(t *testing.T) {
	s := newHarness(t, "/tenant")
	for _, path := range []string{
		"/tenant/.well-known/oauth-authorization-server",
		"/.well-known/oauth-authorization-server",
		"/.well-known/oauth-authorization-server/tenant/",
		"/.well-known/oauth-authorization-server/Tenant",
		"/token",
	} {
		s.refused(s.send(ledger, "GET", path, nil, ""), "not_found")
	}
}

// RFC 7517 section 5: the key set has public parts only.
func TestKeySet(t *testing.T) {
	s := newHarness(t, "")
	var set struct{ Keys []map[string]string }
	decodeExactly(t, s.keySet(), &set)
	if len(set.Keys) != 1 {
		t.Fatalf("got %d keys, want 1", len(set.Keys))
	}
	key := set.Keys[0]
	if key["kty"] != "EC" || key["crv"] != "P-256" || key["use"] != "sig" || key["alg"] != "ES256" ||
		len(s.decode(key["x"])) != 32 || len(s.decode(key["y"])) != 32 || len(key["kid"]) != 43 || len(key) != 7 {
		t.Errorf("got key %v, want the public part of the signing key", key)
	}
}

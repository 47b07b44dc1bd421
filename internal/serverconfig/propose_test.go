package serverconfig

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A server is an authorization server on loopback.
type server struct {
	*httptest.Server
	ca       string // PEM file
	signer   *testpki.Signer
	requests []string
	metadata map[string]any // added to issuer and jwks_uri
	keys     []byte
	issuer   string // "": the URL
}

func newServer(t *testing.T, algorithm string) *server {
	t.Helper()
	s := &server{signer: testpki.NewSigner(algorithm, "k1"), metadata: map[string]any{}}
	s.keys = testpki.KeySet(s.signer)
	pair := testpki.SelfSigned("as", testpki.IP("127.0.0.1"))
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.ca, pair.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests = append(s.requests, r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/keys":
		_, _ = w.Write(s.keys)
	case "/hang":
		<-r.Context().Done()
	case "/elsewhere":
		http.Redirect(w, r, "https://localhost:1/keys", http.StatusFound)
	case "/.well-known/openid-configuration":
		document := map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/keys"}
		if s.issuer != "" {
			document["issuer"] = s.issuer
		}
		for name, value := range s.metadata {
			document[name] = value
		}
		_ = json.NewEncoder(w).Encode(document)
	default:
		http.NotFound(w, r)
	}
}

func (s *server) propose(t *testing.T, token string) (*Proposal, error) {
	t.Helper()
	return Propose(t.Context(), Options{URL: s.URL, CA: s.ca, Token: token, Timeout: 10 * time.Second})
}

// bound returns the claims of a token that is bound to a certificate.
func (s *server) bound(edits testpki.M) testpki.M {
	return testpki.Bound(s.URL, "https://api.example.com", "northwind-ledger", testpki.SelfSigned("ledger"), edits)
}

// settings reads the block as the gate does.
func (p *Proposal) settings(t *testing.T) config.AuthorizationServer {
	t.Helper()
	c, err := config.Parse("block", "", []byte(p.Block+otherSections))
	if err != nil {
		t.Fatalf("the block is not valid: %v\n%s", err, p.Block)
	}
	return c.AuthorizationServers[0]
}

// A token of each shape leads to settings that read it.
func TestShapes(t *testing.T) {
	list := func(names ...config.ClaimName) []config.ClaimName { return names }
	for name, shape := range map[string]struct {
		algorithm      string
		header, claims testpki.M
		want           func(*config.AuthorizationServer)
		block          []string // lines without their comments
	}{
		"RFC 9068": {"ES256", nil, nil, func(*config.AuthorizationServer) {}, nil},
		"Keycloak": {
			"RS256", testpki.M{"typ": "JWT"}, testpki.M{"client_id": nil, "azp": "northwind-ledger", "realm_access": testpki.M{}},
			func(s *config.AuthorizationServer) { *s = config.ProfileKeycloak.Defaults() },
			[]string{"profile: keycloak"},
		},
		"Okta": {
			"RS256", testpki.M{"typ": nil}, testpki.M{"client_id": nil, "scope": nil, "cid": "northwind-ledger", "scp": []string{"accounts:read"}},
			func(s *config.AuthorizationServer) { *s = config.ProfileOkta.Defaults() },
			[]string{"profile: okta"},
		},
		"Cognito": {
			"RS256", testpki.M{"typ": nil}, testpki.M{"aud": nil, "token_use": "access"},
			func(s *config.AuthorizationServer) {
				*s = config.ProfileCognito.Defaults()
				s.Audiences = []string{"northwind-ledger"}
			},
			[]string{"profile: cognito", "audiences: [northwind-ledger]"},
		},
		"Hydra": {
			"RS256", testpki.M{"typ": "JWT"}, testpki.M{
				"scope": nil, "scp": []string{"accounts:read"}, "cnf": nil,
				"ext": testpki.M{"cnf": testpki.M{"x5t#S256": testpki.SelfSigned("x").Thumbprint()}},
			},
			func(s *config.AuthorizationServer) { *s = config.ProfileHydra.Defaults() },
			[]string{"profile: hydra"},
		},
		"Spring Authorization Server": {
			"RS256", testpki.M{"typ": nil}, testpki.M{"client_id": nil, "sub": "northwind-ledger", "aud": "northwind-ledger", "scope": []string{"accounts:read"}},
			func(s *config.AuthorizationServer) {
				s.Algorithms, s.Types, s.ClientClaim = []config.Algorithm{config.RS256}, []string{config.NoType}, list("sub")
				s.Audiences = []string{"northwind-ledger"}
			},
			[]string{"algorithms: [RS256]", "types: [absent]", "client_claim: [sub]", "audiences: [northwind-ledger]"},
		},
		"others": {
			"ES384", testpki.M{"typ": "application/at+jwt"}, testpki.M{"client_id": nil, "client": "northwind-ledger", "scope": nil, "permissions": []string{"accounts:read"}},
			func(s *config.AuthorizationServer) {
				s.Algorithms, s.ClientClaim, s.ScopeClaim = []config.Algorithm{config.ES384}, list("client"), "permissions"
			},
			[]string{"algorithms: [ES384]", "client_claim: [client]", "scope_claim: permissions"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			as := newServer(t, shape.algorithm)
			p, err := as.propose(t, as.signer.Token(as.bound(shape.claims), shape.header))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Missing) > 0 || !slices.ContainsFunc(p.Found, func(s string) bool { return strings.HasPrefix(s, "the token is bound to the certificate") }) {
				t.Errorf("missing %q, found %q, want a bound token", p.Missing, p.Found)
			}
			want := config.ProfileRFC9068.Defaults()
			shape.want(&want)
			got := p.settings(t)
			for _, field := range []struct {
				name      string
				got, want any
			}{
				{"profile", got.Profile, want.Profile},
				{"algorithms", got.Algorithms, want.Algorithms},
				{"types", got.Types, want.Types},
				{"client_claim", got.ClientClaim, want.ClientClaim},
				{"audience_claim", got.AudienceClaim, want.AudienceClaim},
				{"scope_claim", got.ScopeClaim, want.ScopeClaim},
				{"confirmation_claim", got.ConfirmationClaim, want.ConfirmationClaim},
			} {
				if g, w := text(t, field.got), text(t, field.want); g != w {
					t.Errorf("%s: got %s, want %s", field.name, g, w)
				}
			}
			if want.Audiences == nil {
				want.Audiences = []string{"https://api.example.com"}
			}
			if !slices.Equal(got.Audiences, want.Audiences) {
				t.Errorf("audiences: got %q, want %q", got.Audiences, want.Audiences)
			}
			for _, line := range shape.block {
				if !strings.Contains(p.Block, "    "+line) {
					t.Errorf("the block lacks %q:\n%s", line, p.Block)
				}
			}
		})
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The block lacks the settings by which the gate would refuse the token, and is valid without them.
func TestMissing(t *testing.T) {
	for name, c := range map[string]struct {
		header, claims testpki.M
		want           string
	}{
		"not bound":       {nil, testpki.M{"cnf": nil}, "the token is not bound to a certificate"},
		"malformed cnf":   {nil, testpki.M{"cnf": testpki.M{"x5t#S256": "short"}}, "the token's cnf has other members"},
		"no client":       {nil, testpki.M{"client_id": nil, "sub": nil}, "the token names no client"},
		"no aud":          {nil, testpki.M{"aud": nil}, "the token has no aud"},
		"no exp":          {nil, testpki.M{"exp": nil}, "the token has no exp"},
		"alg":             {testpki.M{"alg": "ES256K"}, nil, `the token's alg is "ES256K"`},
		"none":            {testpki.M{"alg": "none"}, nil, `the token's alg is "none"`},
		"an ID token":     {testpki.M{"typ": "logout+jwt"}, nil, `the token's typ is "logout+jwt"`},
		"another key":     {testpki.M{"kid": "k2"}, nil, "signature:"},
		"a malformed iat": {nil, testpki.M{"iat": "yesterday"}, "iat"},
	} {
		t.Run(name, func(t *testing.T) {
			as := newServer(t, "ES256")
			p, err := as.propose(t, as.signer.Token(as.bound(c.claims), c.header))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(p.Missing, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("missing %q, want %q in it", p.Missing, c.want)
			}
			p.settings(t)
		})
	}
}

// A token that is bound to a DPoP key needs a setting of the API, and nothing of the server.
func TestDPoP(t *testing.T) {
	as := newServer(t, "ES256")
	p, err := as.propose(t, as.signer.Token(as.bound(testpki.M{"cnf": testpki.M{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}})))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Missing) > 0 || !strings.Contains(strings.Join(p.Found, "\n"), "bound to a DPoP key: the API needs binding") {
		t.Errorf("missing %q, found %q, want the binding to a key", p.Missing, p.Found)
	}
}

// Without a token, the key set decides the algorithms.
func TestWithoutToken(t *testing.T) {
	as := newServer(t, "RS256")
	as.keys = []byte(text(t, map[string]any{"keys": []any{as.signer.JWK(), testpki.NewSigner("ES256", "weak").JWK(testpki.M{"alg": "ES256K"})}}))
	as.metadata["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": as.URL + "/mtls/token"}
	as.metadata["tls_client_certificate_bound_access_tokens"] = true
	p, err := as.propose(t, "")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(p.Found, "\n")
	for _, want := range []string{"announces certificate-bound", "has mtls_endpoint_aliases", `kid "k1" for`, `key left out: kid "weak"`, "without --token"} {
		if !strings.Contains(all, want) {
			t.Errorf("found lacks %q:\n%s", want, all)
		}
	}
	if got := p.settings(t).Algorithms; !slices.Contains(got, config.RS256) || len(p.Missing) > 0 {
		t.Errorf("algorithms %q, missing %q, want RS256 and nothing missing", got, p.Missing)
	}
	as.keys = []byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"secret"}]}`)
	if p, err = as.propose(t, ""); err != nil || len(p.Missing) != 1 || !strings.Contains(p.Missing[0], "no usable key") {
		t.Errorf("with a symmetric key alone: missing %v, %v, want no usable key", p, err)
	}
}

// An opaque token leads to introspection, and only the metadata is requested.
func TestOpaqueToken(t *testing.T) {
	as := newServer(t, "ES256")
	as.metadata["introspection_endpoint"] = as.URL + "/introspect"
	p, err := as.propose(t, "2YotnFZFEjr1zCsicMWpAA")
	if err != nil {
		t.Fatal(err)
	}
	s := p.settings(t)
	if s.Tokens != config.OpaqueOnly || s.Introspection == nil || len(p.Missing) > 0 {
		t.Errorf("tokens %s, introspection %v, missing %q", s.Tokens, s.Introspection, p.Missing)
	}
	if slices.Contains(as.requests, "/introspect") || slices.Contains(as.requests, "/keys") {
		t.Errorf("requests %q, want the metadata alone", as.requests)
	}
	delete(as.metadata, "introspection_endpoint")
	if p, err = as.propose(t, "2YotnFZFEjr1zCsicMWpAA"); err != nil || len(p.Missing) != 1 {
		t.Errorf("without introspection_endpoint: %v, %v, want it missing", p, err)
	} else {
		p.settings(t)
	}
}

// A server that is not the requested server, and a token of another server, are errors. No error
// and no result has a part of the token.
func TestRefused(t *testing.T) {
	as := newServer(t, "ES256")
	token := as.signer.Token(as.bound(testpki.M{"iss": "https://other.example.com"}))
	for name, c := range map[string]struct {
		url, token, want string
		change           func()
	}{
		"http":                {"http://127.0.0.1:1", "", "must be https", func() {}},
		"a query":             {as.URL + "?x=secret", "", "must be https", func() {}},
		"another issuer":      {as.URL, "", "must be the requested URL byte for byte", func() { as.issuer = as.URL + "/" }},
		"another's metadata":  {as.URL + "/.well-known/openid-configuration", "", "must be the requested URL byte for byte", func() { as.issuer = "https://other.example.com" }},
		"another's token":     {as.URL, token, "the token's iss is", func() { as.issuer = "" }},
		"a malformed token":   {as.URL, strings.Replace(token, ".", ".!", 1), "the token", func() {}},
		"no metadata":         {as.URL + "/tenant/x", "", "answers with status 404", func() { as.issuer = as.URL }},
		"no key set":          {as.URL, "", "jwks_uri", func() { as.issuer, as.metadata["jwks_uri"] = "", "http://127.0.0.1:1/keys" }},
		"a key set elsewhere": {as.URL, "", "fetching key set", func() { as.metadata["jwks_uri"] = as.URL + "/nothing" }},
		"a key set that redirects to another host": {as.URL, "", "/elsewhere answers with status 302", func() { as.metadata["jwks_uri"] = as.URL + "/elsewhere" }},
		"oversized metadata":                       {as.URL, "", "too large", func() { as.metadata["x"] = strings.Repeat("x", 64<<10) }},
	} {
		t.Run(name, func(t *testing.T) {
			as.issuer, as.metadata = "", map[string]any{}
			c.change()
			_, err := Propose(t.Context(), Options{URL: c.url, CA: as.ca, Token: c.token, Timeout: 10 * time.Second})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q in it", err, c.want)
			}
			for _, part := range []string{"secret", token[10:40], token[len(token)-30:]} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("the error quotes %q: %v", part, err)
				}
			}
		})
	}
	as.issuer, as.metadata = "", map[string]any{}
	if _, err := Propose(t.Context(), Options{URL: as.URL, Timeout: 10 * time.Second}); err == nil || !strings.Contains(err.Error(), "--ca") {
		t.Errorf("without --ca: got %v, want a hint at --ca", err)
	}
	as.metadata["jwks_uri"] = as.URL + "/hang"
	if _, err := Propose(t.Context(), Options{URL: as.URL, CA: as.ca, Timeout: 300 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "--timeout") {
		t.Errorf("of a server that hangs: got %v, want a hint at --timeout", err)
	}
	var usage *UsageError
	if _, err := Propose(t.Context(), Options{URL: as.URL}); !errors.As(err, &usage) {
		t.Errorf("without a time limit: got %v, want a UsageError", err)
	}
}

// The issuer that the metadata names is part of a command to paste only if no shell expands it.
func TestHostileIssuer(t *testing.T) {
	as := newServer(t, "ES256")
	for _, hostile := range []string{
		"https://as.example.com/$(touch${IFS}x)", "https://as.example.com/`id`", "https://as.example.com/$HOME", `https://as.example.com/";id;"`,
		"https://as.example.com/;id", "https://as.example.com/!!", "https://as.example.com/a b", "https://as.example.com/\x1b[2J", "--ca",
		"https://as.example.com/" + strings.Repeat("a", 200),
	} {
		as.issuer = hostile
		if _, err := as.propose(t, ""); err == nil || !strings.HasSuffix(err.Error(), "run tallygate configure-server with that issuer") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("issuer %q: got %v, want an error without a command for it", hostile, err)
		}
	}
	as.issuer = "https://as.example.com:8443/realms/partners"
	if _, err := as.propose(t, ""); err == nil || !strings.HasSuffix(err.Error(), "run tallygate configure-server "+as.issuer) {
		t.Errorf("got %v, want the command", err)
	}
}

// No claim can add a line or a setting to the block.
func TestHostileClaims(t *testing.T) {
	const hostile = "x\n  - name: mallory\n    issuer: https://mallory.example # \u2028\x1b[2J\"'"
	as := newServer(t, "ES256")
	p, err := as.propose(t, as.signer.Token(as.bound(testpki.M{"aud": []string{hostile, "https://api.example.com"}, "client_id": hostile, "scope": hostile})))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.Block, "mallory") || strings.Contains(p.Block, "\x1b") {
		t.Errorf("the block has what the token says:\n%s", p.Block)
	}
	p.settings(t)
	if _, err := as.propose(t, as.signer.Token(as.bound(testpki.M{"aud": hostile}))); err == nil {
		t.Error("got a block for an audience with line breaks, want an error")
	}
	for in, want := range map[string]string{"a": "a", "no": `"no"`, "1e3": `"1e3"`, "a: b": `"a: b"`, "https://x/a?b": `"https://x/a?b"`, "a\nb": `"a\nb"`, "x #y": `"x #y"`, "": `""`} {
		if got := scalar(in); got != want {
			t.Errorf("scalar(%q) = %s, want %s", in, got, want)
		}
	}
}

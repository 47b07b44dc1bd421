package issuer_test

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer"
)

// san adds a SAN of a type that testpki does not support.
func san(uri, email string) testpki.Option {
	return func(c *x509.Certificate) {
		if uri != "" {
			u, err := url.Parse(uri)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
		if email != "" {
			c.EmailAddresses = append(c.EmailAddresses, email)
		}
	}
}

func emptySubject(c *x509.Certificate) { c.Subject = pkix.Name{} }

// Each name of RFC 8705 section 2.1.2 authenticates its client. Similar names do not.
func TestRegisteredNames(t *testing.T) {
	const spiffe = "spiffe://northwind.example/ledger"
	tests := []struct {
		name       string
		registered config.RegisteredCertificate
		shown      *testpki.Pair
		ok         bool
	}{
		{"uri", config.RegisteredCertificate{SANURI: spiffe}, northCA.Leaf("x", san(spiffe, "")), true},
		{"uri, empty subject", config.RegisteredCertificate{SANURI: spiffe}, northCA.Leaf("", emptySubject, san(spiffe, "")), true},
		{"uri, longer", config.RegisteredCertificate{SANURI: spiffe}, northCA.Leaf("x", san(spiffe+"/x", "")), false},
		{"uri, other case", config.RegisteredCertificate{SANURI: spiffe}, northCA.Leaf("x", san("spiffe://Northwind.example/ledger", "")), false},
		{"uri of another authority", config.RegisteredCertificate{SANURI: spiffe}, southCA.Leaf("x", san(spiffe, "")), false},
		{"ip", config.RegisteredCertificate{SANIP: certname.IP{Addr: netip.MustParseAddr("2001:db8::1")}}, northCA.Leaf("x", testpki.IP("2001:0DB8:0:0:0:0:0:1")), true},
		{"ip, another", config.RegisteredCertificate{SANIP: certname.IP{Addr: netip.MustParseAddr("192.0.2.1")}}, northCA.Leaf("x", testpki.IP("192.0.2.10")), false},
		{"ip as dns name", config.RegisteredCertificate{SANIP: certname.IP{Addr: netip.MustParseAddr("192.0.2.1")}}, northCA.Leaf("192.0.2.1", testpki.DNS("192.0.2.1")), false},
		{"email", config.RegisteredCertificate{SANEmail: "ledger@northwind.example"}, northCA.Leaf("x", san("", "ledger@Northwind.example")), true},
		{"email, other local part", config.RegisteredCertificate{SANEmail: "ledger@northwind.example"}, northCA.Leaf("x", san("", "Ledger@northwind.example")), false},
		{"wildcard in the certificate", config.RegisteredCertificate{SANDNS: "ledger.northwind.example"}, northCA.Leaf("x", testpki.DNS("*.northwind.example")), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newHarness(t, "", func(cfg *config.Config) { cfg.Partners.List[0].Applications[0].Certificate = test.registered })
			a := s.ask(test.shown, good)
			if test.ok {
				s.granted(a)
				return
			}
			s.refused(a, "invalid_client")
		})
	}
}

// RFC 8705 section 2.2: a registered certificate authenticates its client while it is valid, with
// any chain. No other certificate does.
func TestSelfSignedClients(t *testing.T) {
	own := testpki.SelfSigned("ledger")
	expired := testpki.SelfSigned("ledger", testpki.Valid(time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)))
	file := filepath.Join(t.TempDir(), "client.pem")
	if err := os.WriteFile(file, append(own.CertPEM(), expired.CertPEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	jwk := (&testpki.Signer{Key: own.Key, Algorithm: "ES256"}).JWK(testpki.M{"x5c": []string{base64.StdEncoding.EncodeToString(own.Cert.Raw)}})
	inline, err := json.Marshal(testpki.M{"keys": []any{jwk}})
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*config.Application){
		"file":    func(a *config.Application) { a.Keys.Certificates = []config.Path{config.Path(file)} },
		"key set": func(a *config.Application) { a.Keys.JWKS = string(inline) },
		"thumbprint": func(a *config.Application) {
			a.Certificate.Thumbprints = []access.Thumbprint{sha256.Sum256(own.Cert.Raw)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHarness(t, "", func(cfg *config.Config) {
				a := &cfg.Partners.List[0].Applications[0]
				a.Authentication, a.Certificate = config.SelfSignedTLSClientAuth, config.RegisteredCertificate{}
				edit(a)
			})
			g := s.granted(s.ask(own, good))
			if got := s.verify(g.Token).Confirmation["x5t#S256"]; got != own.Thumbprint() {
				t.Errorf("the token is bound to %s, want the client certificate", got)
			}
			for _, other := range []*testpki.Pair{testpki.SelfSigned("ledger"), ledger, expired, nil} {
				s.refused(s.ask(other, good), "invalid_client")
			}
			// The certificate authenticates no other client, not even a client without
			// certificates.
			s.refused(s.ask(own, "grant_type=client_credentials&client_id=northwind-archive"), "invalid_client")
		})
	}
}

// A revoked certificate is refused, also after a restart.
func TestRevokedCertificateStaysRevoked(t *testing.T) {
	keep := sameIssuer()
	s := newHarness(t, "", keep)
	token := s.verify(s.token().Token)
	if _, err := s.issuer.Revoke(issuer.RevocationRequest{Thumbprint: ledger.Thumbprint()}); err != nil {
		t.Fatal(err)
	}
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	again := newHarness(t, "", keep)
	again.issuer.Sweep(t.Context())
	again.refused(again.ask(ledger, good), "invalid_client")
	if line := again.lastLine(); line["reason"] != access.RevokedCertificate.String() {
		t.Errorf("got log line %v, want the refusal with its reason", line)
	}
	thumbprint, err := access.ParseThumbprint(token.Confirmation["x5t#S256"])
	if err != nil {
		t.Fatal(err)
	}
	bound := access.Unchecked{Issuer: again.identifier, TokenID: token.ID, ClientID: token.ClientID, Confirmation: access.Confirmation{Present: true, Thumbprint: thumbprint}}
	if !isRevoked(t, again.issuer, bound) {
		t.Error("Revoked is false for a token bound to the revoked certificate, want true")
	}
}

// The response to a refusal by a rule does not name the rule; the log does.
func TestGovernanceOnTheWire(t *testing.T) {
	rules := func(g config.Governance) func(*config.Config) {
		return func(cfg *config.Config) { cfg.Issuer.Governance = g }
	}
	for _, test := range []struct {
		name, code, level string
		rules             config.Governance
	}{
		{"workspace", "access_denied", "workspace", config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: "true", Refuse: "because"}}}},
		{"scope", "invalid_scope", "scope", config.Governance{Scope: []config.ScopeRule{{Name: "r", Scope: "accounts:read", When: "true", Refuse: "because"}}}},
		{"error", "access_denied", "claims", config.Governance{Claims: []config.ClaimRule{{Name: "r", Claim: "c", Value: "1 / 0"}}}},
		{"every scope dropped", "invalid_scope", "", config.Governance{Scope: []config.ScopeRule{
			{Name: "a", Scope: "accounts:read", When: "true", Drop: true}, {Name: "b", Scope: "accounts:write", When: "true", Drop: true}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newHarness(t, "", rules(test.rules))
			s.refused(s.ask(ledger, good), test.code)
			if line := s.lastLine(); test.level != "" && (line["rule_level"] != test.level || line["rule"] != "r") {
				t.Errorf("got log line %v, want the level and the name of the rule", line)
			}
		})
	}
	s := newHarness(t, "", rules(config.Governance{Claims: []config.ClaimRule{{Name: "r", Claim: "tier", Value: `client.partner`}}}))
	var got map[string]any
	if err := json.Unmarshal(s.decode(split(s.fetch(good))[1]), &got); err != nil {
		t.Fatal(err)
	}
	if got["tier"] != "northwind" || got["iss"] != s.identifier {
		t.Errorf("got claims %v, want the claim of the rule", got)
	}
}

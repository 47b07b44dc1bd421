package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

// trustSettings name every file of certificates that the configuration may name. ${NAME} is
// the file of the setting NAME.
const trustSettings = `
listener:
  address: "127.0.0.1:0"
  certificate: {files: {certificate: ${listener.certificate}, key: gate-key.pem}}
  client_certificates:
    trust: [${listener.trust}]
    self_signed: true
    from: header
    header: {formats: [rfc9440], trusted_proxies: {certificates: {san_dns: [lb.test], trust: [${proxies.trust}]}}}
    revocation: {lists: [northwind.crl], authorities: [${revocation.authorities}], exempt: [${revocation.exempt}]}
authorization_servers:
  - name: foreign
    issuer: https://other.example.test
    audiences: [https://api.example.test]
    key_set: {url: "https://127.0.0.1:1/keys"}
    connection: {trust: [${connection.trust}], certificate: {certificate: ${connection.certificate}, key: gate-key.pem}}
  - {name: own, issuer: "https://as.example.test", audiences: [https://api.example.test]}
apis:
  - name: accounts
    hosts: [api.example.test]
    upstream: {url: "https://127.0.0.1:1", tls: {trust: [${upstream.trust}], certificate: {certificate: ${upstream.certificate}, key: gate-key.pem}}}
    routes: [{methods: [GET], path: "/accounts/{id}"}]
partners:
  list:
    - name: northwind
      trust: [${partner.trust}]
      applications:
        - client_id: ledger
          authentication: self_signed_tls_client_auth
          keys: {certificates: [${keys.certificates}]}
          apis: [accounts]
        - client_id: sync
          authentication: self_signed_tls_client_auth
          keys: {jwks_uri: "https://northwind.example/jwks", trust: [${keys.trust}]}
          apis: [accounts]
issuer:
  issuer: https://as.example.test
  address: "127.0.0.1:0"
  certificate: {files: {certificate: ${issuer.certificate}, key: gate-key.pem}}
  state: state
  audience: https://api.example.test
  resource_servers:
    - {client_id: api, trust: [${resource_server.trust}], certificate: {san_dns: api.test}, resources: [https://api.example.test]}
admin: {address: "127.0.0.1:0"}
`

const acmeTrust = `
listener:
  address: "127.0.0.1:0"
  certificate: {acme: {domains: [api.example.test], email: a@example.test, storage: acme, directory: "https://127.0.0.1:1/", directory_trust: [${acme.trust}]}}
  client_certificates: {trust: [${listener.trust}]}
authorization_servers:
  - {name: a, issuer: "https://as.example.test", audiences: [https://api.example.test]}
apis:
  - {name: accounts, hosts: [api.example.test], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: "/"}]}
partners: {list: [{name: northwind, applications: [{client_id: ledger, apis: [accounts]}]}]}
admin: {address: "127.0.0.1:0"}
`

// T-ADD-20: every setting refuses a bundle with a broken certificate or a private key behind a good
// certificate, and the error names the file and the line.
func TestTrustFiles(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	gate, partner, others := testpki.SelfSigned("gate"), testpki.NewCA("Northwind"), testpki.NewCA("Front")
	gate.Write(dir, "gate")
	partner.Write(dir, "northwind")
	store := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store("northwind.crl", partner.RevocationList())
	second := testpki.NewCA("Second").CertPEM()
	// The blocks behind the good certificate, by the text of the error.
	faults := map[string]string{
		"cut short": string(second[:len(second)/2]), "a private key": string(partner.KeyPEM()),
		"parsing": strings.Replace(string(second), "MII", "AAA", 1), "a block of type": strings.ReplaceAll(string(second), "CERTIFICATE", "X509 CRL"),
	}
	good := func(name string) (content []byte) {
		switch {
		case strings.HasSuffix(name, ".certificate"):
			return gate.CertPEM()
		case name == "proxies.trust": // no partner's
			return others.CertPEM()
		}
		return partner.CertPEM()
	}
	for _, settings := range []string{trustSettings, acmeTrust} {
		var names []string
		store("gate.yaml", []byte(os.Expand(settings, func(name string) string {
			names = append(names, name)
			return name + ".pem"
		})))
		for _, name := range names {
			store(name+".pem", good(name))
		}
		if code, _, stderr := command(t, "check", "--config", "gate.yaml"); code != 0 {
			t.Fatalf("good files are refused: %s", stderr)
		}
		for _, name := range names {
			for says, fault := range faults {
				if says == "a private key" && strings.HasSuffix(name, ".certificate") {
					continue // a key may be in the file of its certificate
				}
				before := "# our partners\n" + string(good(name))
				store(name+".pem", []byte(before+fault))
				want := fmt.Sprintf("%s.pem:%d: ", name, 1+strings.Count(before, "\n"))
				code, _, stderr := command(t, "check", "--config", "gate.yaml")
				if code == 0 || !strings.Contains(stderr, want) || !strings.Contains(stderr, says) {
					t.Errorf("%s with %s: exit code %d and %q, want %q", name, says, code, stderr, want)
				}
			}
			store(name+".pem", good(name))
		}
	}
}

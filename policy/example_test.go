package policy_test

import (
	"fmt"
	"net/http/httptest"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/policy"
)

func ExampleTable_Decide() {
	cfg, err := config.Parse("gate.yaml", "/etc/tallygate", []byte(`
listener: {certificate: {files: {certificate: gate.pem, key: gate-key.pem}}}
authorization_servers:
  - {name: as, issuer: "https://as.example.com", audiences: ["https://api.example.com"]}
apis:
  - name: accounts
    hosts: [api.example.com]
    upstream: {url: "http://127.0.0.1:8080"}
    routes:
      - {methods: [GET], path: "/accounts/{id}", scopes: [accounts:read]}
partners:
  list:
    - name: northwind
      trust: [northwind-ca.pem]
      applications:
        - {client_id: ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts]}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	// Package mtls reads the anchors from northwind-ca.pem and checks the certificate of the connection,
	// and package validate checks the token. The example makes both results itself.
	anchor := access.AnchorKey{1}
	table := policy.New(cfg, policy.Certificates{Anchors: map[config.Name][]access.AnchorKey{"northwind": {anchor}}})
	leaf := testpki.NewCA("northwind").Leaf("ledger", testpki.DNS("ledger.northwind.example"))
	cert := &access.Certificate{Leaf: leaf.Cert, Thumbprint: access.ThumbprintOf(leaf.Cert), Anchors: []access.AnchorKey{anchor}}
	claims := access.Claims{Server: "as", ClientID: "ledger", Scopes: []string{"accounts:read"}}

	for _, method := range []string{"GET", "DELETE"} {
		target, err := table.ParseTarget(httptest.NewRequest(method, "https://api.example.com/accounts/7", nil))
		if err != nil {
			fmt.Println(access.ReasonOf(err))
			continue
		}
		d := table.Decide(method, target, claims, cert)
		fmt.Println(method, d.Reason, d.Partner, d.API, d.Route)
	}
	// Output:
	// GET granted northwind accounts /accounts/{id}
	// DELETE api_not_allowed northwind
}

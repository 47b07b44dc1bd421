package mtls

import (
	"strings"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// No authority of a partner can issue the certificate of an operator: not as an anchor of the operator, not below an
// anchor of the operator, and not if the client presents its cross-certificate.
func TestOperatorAnchors(t *testing.T) {
	dir := t.TempDir()
	path := func(name string, p *testpki.Pair) config.Path {
		file, _ := p.Write(dir, name)
		return config.Path(file)
	}
	operations, northwind, shared := testpki.NewCA("Operations"), testpki.NewCA("Northwind"), testpki.NewCA("Shared")
	below := operations.Intermediate("Borealis")
	crossed := operations.Intermediate("Northwind", testpki.Keyed(northwind.Key.Public()))
	files := map[string]config.Path{
		"operations": path("operations", operations), "northwind": path("northwind", northwind), "shared": path("shared", shared), "below": path("below", below),
	}
	configured := func(trust ...string) *config.Config {
		cfg := &config.Config{}
		cfg.Listener.ClientCertificates.Trust = []config.Path{files["shared"]}
		cfg.Partners.List = []config.Partner{
			{Name: "northwind", Trust: []config.Path{files["northwind"]}}, {Name: "borealis", Trust: []config.Path{files["below"]}},
		}
		cfg.Issuer = &config.Issuer{Operators: []config.Operator{{Name: "anna"}}}
		for _, name := range trust {
			cfg.Issuer.Operators[0].Trust = append(cfg.Issuer.Operators[0].Trust, files[name])
		}
		return cfg
	}
	for _, name := range []string{"northwind", "shared", "below"} {
		_, err := LoadTrust(configured("operations", name), Options{})
		if err == nil || !strings.Contains(err.Error(), "issuer.operators[0].trust: the anchor ") || !strings.Contains(err.Error(), "whose authority could issue the certificate of an operator") {
			t.Errorf("LoadTrust with %s as anchor of an operator returned %v, want an error", name, err)
		}
	}
	trust, err := LoadTrust(configured("operations"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		leaf     *testpki.Pair
		more     []*testpki.Pair
		operator bool
	}{
		{"the anchor's own", operations.Leaf("anna"), nil, true},
		{"another authority below the anchor", operations.Intermediate("Issuing").Leaf("anna"), nil, true},
		{"a partner's authority", northwind.Leaf("anna"), nil, false},
		{"a partner's authority below the anchor", below.Leaf("anna"), nil, false},
		{"a partner's authority with a cross-certificate of the anchor", northwind.Leaf("anna"), []*testpki.Pair{crossed}, false},
		{"the anchors of the listener", shared.Leaf("anna"), nil, false},
	} {
		c, err := client(trust, chain(test.leaf, test.more...))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := c.ChainsTo(trust.OperatorAnchors()["anna"]); got != test.operator {
			t.Errorf("%s: chains to the operator's anchors is %t, want %t", test.name, got, test.operator)
		}
		for name, anchors := range trust.Anchors() {
			if test.operator && c.ChainsTo(anchors) {
				t.Errorf("%s: chains to the anchors of %s too", test.name, name)
			}
		}
	}
	without := configured("operations")
	without.Issuer.Operators = nil
	next, err := LoadTrust(without, Options{Previous: trust})
	if err != nil || !next.RemovesTrust(trust) {
		t.Errorf("without the operator: error %v, RemovesTrust is false; want true", err)
	}
	if _, err := client(next, chain(operations.Leaf("anna"))); reason(err) != access.UntrustedCertificate {
		t.Errorf("without the operator its certificate gets %v, want %v", err, access.UntrustedCertificate)
	}
}

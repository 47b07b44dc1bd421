package policy

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// The holders of the certificates in the tests of this file. Acme and Beta have an authority of their own
// and share another; Acme's applications register names or thumbprints.
type holders struct {
	acmeCA, betaCA, sharedCA, foreignCA *testpki.Pair
	named, pinned, older, selfSigned    *testpki.Pair
	table                               *Table
}

func newHolders() *holders {
	h := &holders{acmeCA: testpki.NewCA("Acme"), betaCA: testpki.NewCA("Beta"), sharedCA: testpki.NewCA("Shared"), foreignCA: testpki.NewCA("Foreign")}
	h.named = h.acmeCA.Leaf("named", testpki.DNS("Named.acme.test"))
	h.pinned, h.older = h.acmeCA.Leaf("pinned"), h.acmeCA.Leaf("pinned")
	h.selfSigned = testpki.SelfSigned("self")
	app := func(client config.ClientID, certificate config.RegisteredCertificate) config.Application {
		return config.Application{ClientID: client, Certificate: certificate}
	}
	self := app("acme-self", config.RegisteredCertificate{})
	self.Authentication = config.SelfSignedTLSClientAuth
	cfg := &config.Config{AuthorizationServers: []config.AuthorizationServer{{Name: "as"}, {Name: "beta-as", Partners: []config.Name{"beta"}}}, Partners: config.Partners{List: []config.Partner{
		{Name: "acme", Applications: []config.Application{
			app("acme-named", config.RegisteredCertificate{SANDNS: "named.acme.test"}),
			app("acme-pinned", config.RegisteredCertificate{Thumbprints: []access.Thumbprint{access.ThumbprintOf(h.pinned.Cert), access.ThumbprintOf(h.older.Cert)}}),
			app("acme-twice", config.RegisteredCertificate{SANDNS: "twice.acme.test"}),
			app("acme-again", config.RegisteredCertificate{SANDNS: "twice.acme.test"}),
			app("acme-uri", config.RegisteredCertificate{SANURI: "urn:abcdefghijkl"}),
			self,
		}},
		{Name: "beta", Applications: []config.Application{
			app("beta-open", config.RegisteredCertificate{}),
			app("beta-named", config.RegisteredCertificate{SANDNS: "beta.test"}),
		}},
		{Name: "gamma", Applications: []config.Application{app("gamma-named", config.RegisteredCertificate{SANDNS: "beta.test"})}},
	}}}
	h.table = New(cfg, Certificates{
		Anchors: map[config.Name][]access.AnchorKey{
			"acme": anchors(h.acmeCA, h.sharedCA), "beta": anchors(h.sharedCA, h.betaCA), "gamma": anchors(h.sharedCA),
		},
		Registered: map[config.ClientID]map[access.Thumbprint]bool{"acme-self": {access.ThumbprintOf(h.selfSigned.Cert): true}},
	})
	return h
}

// The anchors and registered names of a certificate identify its partner and application. If several
// partners could have the certificate, it identifies none of them.
func TestCaller(t *testing.T) {
	h := newHolders()
	for name, c := range map[string]struct {
		cert *access.Certificate
		want Caller
	}{
		"no certificate":                     {nil, Caller{}},
		"name":                               {certificate(h.named, h.acmeCA), Caller{"acme", "acme-named"}},
		"name under the shared anchor":       {certificate(h.sharedCA.Leaf("x", testpki.DNS("named.acme.test")), h.sharedCA), Caller{"acme", "acme-named"}},
		"name under another's anchor":        {certificate(h.betaCA.Leaf("x", testpki.DNS("named.acme.test")), h.betaCA), Caller{"beta", ""}},
		"name without an anchor":             {certificate(testpki.SelfSigned("x", testpki.DNS("named.acme.test"))), Caller{}},
		"thumbprint":                         {certificate(h.pinned, h.acmeCA), Caller{"acme", "acme-pinned"}},
		"registered self-signed certificate": {certificate(h.selfSigned), Caller{"acme", "acme-self"}},
		"thumbprint under another's anchor":  {certificate(h.pinned, h.betaCA), Caller{"beta", ""}},
		"unknown name under own anchor":      {certificate(h.acmeCA.Leaf("x"), h.acmeCA), Caller{"acme", ""}},
		"name of two applications":           {certificate(h.acmeCA.Leaf("x", testpki.DNS("twice.acme.test")), h.acmeCA), Caller{"acme", ""}},
		"application without registration":   {certificate(h.betaCA.Leaf("x"), h.betaCA), Caller{"beta", ""}},
		"unknown name, shared anchor":        {certificate(h.sharedCA.Leaf("x"), h.sharedCA), Caller{}},
		"name of two partners":               {certificate(h.sharedCA.Leaf("x", testpki.DNS("beta.test")), h.sharedCA), Caller{}},
		"foreign anchor":                     {certificate(h.foreignCA.Leaf("x"), h.foreignCA), Caller{}},
	} {
		if got := h.table.Caller(c.cert); got != c.want {
			t.Errorf("%s: Caller = %+v, want %+v", name, got, c.want)
		}
	}
}

// A token with another certificate of the same application is a renewal; every other pair may be a theft.
func TestRenewed(t *testing.T) {
	h := newHolders()
	renewed := certificate(h.acmeCA.Leaf("named", testpki.DNS("named.acme.test")), h.acmeCA)
	earlier := access.ThumbprintOf(h.named.Cert)
	for name, c := range map[string]struct {
		server, client string
		bound          access.Thumbprint
		cert           *access.Certificate
		want           bool
	}{
		"the name under the anchor":              {"as", "acme-named", earlier, renewed, true},
		"two registered thumbprints":             {"as", "acme-pinned", access.ThumbprintOf(h.older.Cert), certificate(h.pinned, h.acmeCA), true},
		"a thumbprint that is not registered":    {"as", "acme-pinned", earlier, certificate(h.pinned, h.acmeCA), false},
		"another's registered thumbprint":        {"as", "acme-named", access.ThumbprintOf(h.pinned.Cert), renewed, false},
		"another application of the partner":     {"as", "acme-pinned", earlier, renewed, false},
		"another partner":                        {"as", "beta-named", earlier, renewed, false},
		"an unknown client":                      {"as", "nobody", earlier, renewed, false},
		"no client":                              {"as", "", earlier, renewed, false},
		"a server of other partners":             {"beta-as", "acme-named", earlier, renewed, false},
		"an unknown server":                      {"", "acme-named", earlier, renewed, false},
		"the name under another's anchor":        {"as", "acme-named", earlier, certificate(h.betaCA.Leaf("x", testpki.DNS("named.acme.test")), h.betaCA), false},
		"the name without an anchor":             {"as", "acme-named", earlier, certificate(testpki.SelfSigned("x", testpki.DNS("named.acme.test"))), false},
		"no registration at all":                 {"as", "beta-open", earlier, certificate(h.betaCA.Leaf("x"), h.betaCA), false},
		"no certificate":                         {"as", "acme-named", earlier, nil, false},
		"one registered self-signed certificate": {"as", "acme-self", earlier, certificate(h.selfSigned), false},
	} {
		if got := h.table.Renewed(c.server, c.client, c.bound, c.cert); got != c.want {
			t.Errorf("%s: Renewed = %t, want %t", name, got, c.want)
		}
	}
}

// A partner can put thousands of names into a certificate that differ in case from a registered name. Caller
// compares the certificate with each application once.
func TestCallerTime(t *testing.T) {
	h := newHolders()
	with := func(n int) *access.Certificate {
		return certificate(h.acmeCA.Leaf("x", func(c *x509.Certificate) {
			for bits := 1; bits <= n; bits++ { // bit i makes letter i a capital
				name := []byte("abcdefghijkl")
				for i := range name {
					name[i] -= byte(bits>>i&1) * ('a' - 'A')
				}
				c.URIs = append(c.URIs, &url.URL{Scheme: "urn", Opaque: string(name)})
			}
		}), h.acmeCA)
	}
	const few, many = 500, 4000
	certs, best := [2]*access.Certificate{with(few), with(many)}, [2]time.Duration{time.Hour, time.Hour}
	for range 30 { // other processes make single runs longer, so that only the best times count
		for i, cert := range certs {
			begin := time.Now()
			if got, want := h.table.Caller(cert), (Caller{Partner: "acme"}); got != want {
				t.Fatalf("Caller = %v, want %v", got, want)
			}
			best[i] = min(best[i], time.Since(begin))
		}
		if best[1] <= 24*best[0] { // linear: 4000/500 = 8 times; quadratic: 64 times
			return
		}
	}
	t.Errorf("Caller takes %s for %d names and %s for %d names, want about 8 times as long", best[0], few, best[1], many)
}

// BenchmarkCaller shows that the number of partners under one anchor does not matter.
func BenchmarkCaller(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ca := testpki.NewCA("Shared")
			cfg, keys := &config.Config{}, map[config.Name][]access.AnchorKey{}
			for i := range n {
				name := config.Name(fmt.Sprint("p", i))
				keys[name] = anchors(ca)
				cfg.Partners.List = append(cfg.Partners.List, config.Partner{Name: name, Applications: []config.Application{
					{ClientID: config.ClientID(name), Certificate: config.RegisteredCertificate{SANDNS: fmt.Sprintf("p%d.test", i)}},
				}})
			}
			table := New(cfg, Certificates{Anchors: keys})
			cert := certificate(ca.Leaf("x", testpki.DNS("p7.test")), ca)
			for b.Loop() {
				if table.Caller(cert).Partner != "p7" {
					b.Fatal("the caller is not p7")
				}
			}
		})
	}
}

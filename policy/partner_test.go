package policy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/testpki"
)

// TestDecideCertificate checks which certificates an application accepts. The client_id alone selects
// the partner, and the certificate must belong to that partner (T-JWT-20, T-JWT-21, T-DN-05, T-DN-08).
func TestDecideCertificate(t *testing.T) {
	ca, ca2, otherCA := testpki.NewCA("CA"), testpki.NewCA("CA 2"), testpki.NewCA("CA") // one name, two authorities
	acme := testpki.Subject(pkix.Name{CommonName: "acme", Organization: []string{"Acme"}})
	uri := func(c *x509.Certificate) { c.URIs = []*url.URL{{Opaque: "acme.test"}} }
	email := func(c *x509.Certificate) { c.EmailAddresses = []string{"x@acme.test"} }

	named := ca.Leaf("", acme, testpki.DNS("acme.test"))
	plain := ca.Leaf("plain")
	twin := otherCA.Leaf("", acme, testpki.DNS("acme.test")) // the same names from another authority
	alone := testpki.SelfSigned("", acme, testpki.DNS("acme.test"))
	strange := testpki.SelfSigned("strange")

	dn, err := certname.ParseDN("CN=acme,O=Acme")
	if err != nil {
		t.Fatal(err)
	}
	byDN := config.RegisteredCertificate{SubjectDN: dn}
	byDNS := config.RegisteredCertificate{SANDNS: "acme.test"}
	byURI := config.RegisteredCertificate{SANURI: "spiffe://acme.test/a"}
	byEmail := config.RegisteredCertificate{SANEmail: "x@acme.test"}
	var byIP config.RegisteredCertificate
	if err := byIP.SANIP.UnmarshalText([]byte("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	spiffe := func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "acme.test", Path: "/a"}} }
	pin := func(pairs ...*testpki.Pair) (r config.RegisteredCertificate) {
		for _, p := range pairs {
			r.Thumbprints = append(r.Thumbprints, access.ThumbprintOf(p.Cert))
		}
		return r
	}
	byDNSOrPin := pin(plain, strange, twin)
	byDNSOrPin.SANDNS = "acme.test"
	nothing := config.RegisteredCertificate{}
	own, none := anchors(ca, ca2), anchors()

	try := func(line string, registered config.RegisteredCertificate, trusted []access.AnchorKey, cert *access.Certificate, want access.Reason) {
		t.Helper()
		cfg := &config.Config{AuthorizationServers: servers, APIs: apis(), Partners: config.Partners{List: []config.Partner{
			{Name: "acme", Applications: []config.Application{{ClientID: "acme-app", Certificate: registered, APIs: []config.APIGrant{{API: "accounts"}}}}},
			{Name: "other", Applications: []config.Application{{ClientID: "other-app", APIs: []config.APIGrant{{API: "accounts"}}}}},
		}}}
		table := New(cfg, Certificates{Anchors: map[config.Name][]access.AnchorKey{"acme": trusted, "other": anchors(otherCA)}})
		d := table.Decide("GET", Target{Host: "api.test", Path: "/v1.orders"}, access.Claims{ClientID: "acme-app"}, cert)
		if d.Reason != want || d.Partner != "acme" || d.ClientID != "acme-app" || (d.Err == nil) != (want == access.Granted) {
			t.Errorf("%s: %+v, want %v", line, d, want)
		}
		if refused := want != access.Granted; refused != (d.Route == "") || refused != (d.API == "") {
			t.Errorf("%s: API %q, route %q", line, d.API, d.Route)
		}
	}
	allow := func(line string, registered config.RegisteredCertificate, trusted []access.AnchorKey, cert *access.Certificate) {
		t.Helper()
		try(line, registered, trusted, cert, access.Granted)
	}
	deny := func(line string, registered config.RegisteredCertificate, trusted []access.AnchorKey, cert *access.Certificate) {
		t.Helper()
		try(line, registered, trusted, cert, access.CertificateNotRegistered)
	}

	// The partner's own anchors.
	allow("nothing registered", nothing, own, certificate(plain, ca))
	allow("second anchor", nothing, own, certificate(ca2.Leaf("x"), ca2))
	allow("cross-signed", nothing, own, certificate(plain, otherCA, ca))
	allow("dn", byDN, own, certificate(named, ca))
	allow("dns", byDNS, own, certificate(named, ca))
	allow("uri", byURI, own, certificate(ca.Leaf("", testpki.Subject(pkix.Name{}), spiffe), ca))
	allow("ip", byIP, own, certificate(ca.Leaf("x", testpki.IP("192.0.2.1")), ca))
	allow("email", byEmail, own, certificate(ca.Leaf("x", email), ca))
	allow("pinned", pin(strange, plain), own, certificate(plain, ca))
	allow("dns or pinned: dns", byDNSOrPin, own, certificate(named, ca))
	allow("dns or pinned: pinned", byDNSOrPin, own, certificate(plain, ca))
	deny("dn: none", byDN, own, certificate(plain, ca))
	deny("dn: part of it", byDN, own, certificate(ca.Leaf("acme"), ca))
	deny("dns: none", byDNS, own, certificate(plain, ca))
	deny("dns: common name", byDNS, own, certificate(ca.Leaf("acme.test"), ca))
	deny("dns: wildcard", byDNS, own, certificate(ca.Leaf("x", testpki.DNS("*.test")), ca))
	deny("dns: URI", byDNS, own, certificate(ca.Leaf("x", uri), ca))
	deny("dns: email", byDNS, own, certificate(ca.Leaf("x", email), ca))
	deny("uri: none", byURI, own, certificate(plain, ca))
	deny("ip: another", byIP, own, certificate(ca.Leaf("x", testpki.IP("192.0.2.2")), ca))
	deny("email: none", byEmail, own, certificate(ca.Leaf("x@acme.test"), ca))
	deny("other's, uri", byURI, own, certificate(otherCA.Leaf("x", spiffe), otherCA))
	deny("self-signed, uri, no own anchors", byURI, none, certificate(testpki.SelfSigned("x", spiffe)))
	deny("dns or pinned: neither", byDNSOrPin, own, certificate(ca.Leaf("x"), ca))
	deny("pinned: another of the same names", pin(named), own, certificate(ca.Leaf("", acme, testpki.DNS("acme.test")), ca))

	// A certificate with anchors of other partners only is never accepted, for any registered names (T-DN-08).
	deny("other's, nothing registered", nothing, own, certificate(twin, otherCA))
	deny("other's, dn", byDN, own, certificate(twin, otherCA))
	deny("other's, dns", byDNS, own, certificate(twin, otherCA))
	deny("other's, pinned", pin(twin), own, certificate(twin, otherCA))
	deny("other's, dns and pinned", byDNSOrPin, own, certificate(twin, otherCA))
	deny("other's, no own anchors", nothing, none, certificate(twin, otherCA))
	deny("other's, no own anchors, pinned", pin(twin), none, certificate(twin, otherCA))
	deny("other's, no own anchors, dns", byDNS, none, certificate(twin, otherCA))

	// No anchor: self-signed certificates, which mtls accepts if the configuration allows them.
	allow("self-signed, pinned", pin(strange), own, certificate(strange))
	allow("self-signed, pinned, no own anchors", pin(strange), none, certificate(strange))
	allow("self-signed, pinned beside dns", byDNSOrPin, own, certificate(strange))
	allow("self-signed, nothing to go by but the binding", nothing, none, certificate(strange))
	deny("self-signed, nothing registered", nothing, own, certificate(strange))
	deny("self-signed, dn", byDN, own, certificate(alone))
	deny("self-signed, dns", byDNS, own, certificate(alone))
	deny("self-signed, dn, no own anchors", byDN, none, certificate(alone))
	deny("self-signed, dns, no own anchors", byDNS, none, certificate(alone))
	deny("self-signed, another pinned", pin(alone), none, certificate(strange))

	// No certificate.
	leafless := &access.Certificate{Thumbprint: access.Thumbprint{1}, Anchors: own}
	nameless := &access.Certificate{Leaf: plain.Cert, Anchors: own}
	for line, cert := range map[string]*access.Certificate{"nil": nil, "zero": {}, "no leaf": leafless, "no thumbprint": nameless} {
		deny(line+", nothing registered", nothing, own, cert)
		deny(line+", no own anchors", nothing, none, cert)
		deny(line+", dns", byDNS, own, cert)
		deny(line+", zero pinned", config.RegisteredCertificate{Thumbprints: []access.Thumbprint{{}}}, none, cert)
	}
}

// A certificate for server authentication alone is accepted only by an application that lists
// server_auth, and only if it would be accepted with another usage.
func TestDecideServerOnly(t *testing.T) {
	ca := testpki.NewCA("CA")
	leaf, other := ca.Leaf("a", testpki.DNS("acme.test")), ca.Leaf("b")
	usages := []config.CertificateUsage{config.UsageClientAuth, config.UsageServerAuth}
	for _, tt := range []struct {
		name   string
		usages []config.CertificateUsage
		cert   *access.Certificate
		want   access.Reason
	}{
		{"by default", nil, certificate(leaf, ca), access.WrongUsage},
		{"with client_auth", usages[:1], certificate(leaf, ca), access.WrongUsage},
		{"with server_auth", usages, certificate(leaf, ca), access.Granted},
		{"without an anchor", usages, certificate(leaf), access.CertificateNotRegistered},
		{"of another name", usages, certificate(other, ca), access.CertificateNotRegistered},
	} {
		app := config.Application{
			ClientID: "acme-app", Certificate: config.RegisteredCertificate{SANDNS: "acme.test"}, Usages: tt.usages, APIs: []config.APIGrant{{API: "accounts"}},
		}
		cfg := &config.Config{AuthorizationServers: servers, APIs: apis(), Partners: config.Partners{List: []config.Partner{{Name: "acme", Applications: []config.Application{app}}}}}
		table := New(cfg, Certificates{Anchors: map[config.Name][]access.AnchorKey{"acme": anchors(ca)}})
		tt.cert.ServerOnly = true
		d := table.Decide("GET", Target{Host: "api.test", Path: "/v1.orders"}, access.Claims{ClientID: "acme-app"}, tt.cert)
		if d.Reason != tt.want {
			t.Errorf("%s: got %s (%v), want %s", tt.name, d.Reason, d.Err, tt.want)
		}
		if holder := table.Holder("", "acme-app", tt.cert); (holder == "acme") != (tt.want == access.Granted) {
			t.Errorf("%s: Holder: got %q, want acme only for a granted request", tt.name, holder)
		}
	}
}

// The certificate of an application with self_signed_tls_client_auth must itself be registered, for any
// anchors of the partner and any authorization server of the token (RFC 8705 section 2.2, T-ADD-11). The
// binding of the token stands for a certificate at a jwks_uri only in tokens of our own issuer.
func TestDecideSelfSigned(t *testing.T) {
	ca, otherCA := testpki.NewCA("CA"), testpki.NewCA("Other CA")
	alone, strange, authority := testpki.SelfSigned("alone"), testpki.SelfSigned("strange"), testpki.NewCA("client")
	leaf, foreign := ca.Leaf("a"), otherCA.Leaf("a")
	keys := config.Application{Keys: config.ClientKeys{Certificates: []config.Path{"alone.pem"}}}
	pinned := config.Application{Certificate: config.RegisteredCertificate{Thumbprints: []access.Thumbprint{access.ThumbprintOf(alone.Cert)}}}
	fetched := config.Application{Keys: config.ClientKeys{JWKSURI: &config.URL{}}}
	const ok, not = access.Granted, access.CertificateNotRegistered
	for name, tt := range map[string]struct {
		app     config.Application
		anchors []access.AnchorKey
		cert    *access.Certificate
		foreign access.Reason // by a token of a foreign authorization server
		own     access.Reason // by a token of our own issuer
	}{
		"keys":                                 {keys, anchors(ca), certificate(alone), ok, ok},
		"keys, with the CA bit":                {keys, anchors(ca), certificate(authority), ok, ok},
		"keys, no anchors":                     {keys, nil, certificate(alone), ok, ok},
		"keys, another":                        {keys, anchors(ca), certificate(strange), not, not},
		"keys, another, no anchors":            {keys, nil, certificate(strange), not, not},
		"keys, of the partner's own authority": {keys, anchors(ca), certificate(leaf, ca), ok, ok},
		"keys, another of that authority":      {keys, anchors(ca), certificate(ca.Leaf("b"), ca), not, not},
		"keys, of another's authority":         {keys, anchors(ca), certificate(foreign, otherCA), not, not},
		"keys, another's, no anchors":          {keys, nil, certificate(foreign, otherCA), not, not},
		"keys, no certificate":                 {keys, anchors(ca), nil, not, not},
		"pinned":                               {pinned, anchors(ca), certificate(alone), ok, ok},
		"pinned, another":                      {pinned, anchors(ca), certificate(strange), not, not},
		"pinned, another, no anchors":          {pinned, nil, certificate(strange), not, not},
		"jwks_uri":                             {fetched, anchors(ca), certificate(strange), not, ok},
		"jwks_uri, no anchors":                 {fetched, nil, certificate(strange), not, ok},
		"jwks_uri, the partner's authority":    {fetched, anchors(ca), certificate(leaf, ca), not, ok},
		"jwks_uri, of another's authority":     {fetched, anchors(ca), certificate(foreign, otherCA), not, not},
	} {
		t.Run(name, func(t *testing.T) {
			tt.app.ClientID, tt.app.APIs, tt.app.Authentication = "acme-app", []config.APIGrant{{API: "accounts"}}, config.SelfSignedTLSClientAuth
			cfg := &config.Config{
				AuthorizationServers: []config.AuthorizationServer{{Name: "ours", Issuer: "https://ours.test"}, {Name: "foreign", Issuer: "https://foreign.test"}},
				Issuer:               &config.Issuer{Issuer: "https://ours.test"},
				APIs:                 apis(),
				Partners:             config.Partners{List: []config.Partner{{Name: "acme", Applications: []config.Application{tt.app}}}},
			}
			registered := make(map[access.Thumbprint]bool)
			if tt.app.Keys.JWKSURI == nil {
				for _, p := range []*testpki.Pair{alone, authority, leaf, foreign} {
					registered[access.ThumbprintOf(p.Cert)] = tt.app.Keys.Certificates != nil || p == alone
				}
			}
			table := New(cfg, Certificates{
				Anchors:    map[config.Name][]access.AnchorKey{"acme": tt.anchors},
				Registered: map[config.ClientID]map[access.Thumbprint]bool{"acme-app": registered},
			})
			for server, want := range map[string]access.Reason{"foreign": tt.foreign, "ours": tt.own} {
				claims := access.Claims{ClientID: "acme-app", Server: server}
				d := table.Decide("GET", Target{Host: "api.test", Path: "/v1.orders"}, claims, tt.cert)
				if d.Reason != want {
					t.Errorf("token of %s: %v, want %v", server, d.Reason, want)
				}
				if holder := table.Holder(server, "acme-app", tt.cert); (holder == "acme") != (want == access.Granted) {
					t.Errorf("token of %s: Holder = %q, with reason %v", server, holder, want)
				}
			}
		})
	}
}

// An authorization server may issue tokens for its partners, or for all partners. An unknown server may
// issue tokens for no partner (T-ADD-11).
func TestDecideServer(t *testing.T) {
	application := func(id config.ClientID) []config.Application {
		return []config.Application{{ClientID: id, APIs: []config.APIGrant{{API: "accounts"}}}}
	}
	cfg := &config.Config{
		AuthorizationServers: []config.AuthorizationServer{{Name: "all"}, {Name: "b's", Partners: []config.Name{"b"}}, {Name: "nobody's", Partners: []config.Name{}}},
		APIs:                 apis(),
		Partners:             config.Partners{List: []config.Partner{{Name: "a", Applications: application("a-app")}, {Name: "b", Applications: application("b-app"), Disabled: true}}},
	}
	table := New(cfg, Certificates{Anchors: map[config.Name][]access.AnchorKey{"a": anchors(authority), "b": anchors(authority)}})
	for _, tt := range []struct {
		server, client string
		want           access.Reason
		partner        string
	}{
		{"all", "a-app", access.Granted, "a"},
		{"all", "b-app", access.PartnerDisabled, "b"},
		{"b's", "a-app", access.UnknownClient, ""},
		{"b's", "b-app", access.PartnerDisabled, "b"},
		{"nobody's", "a-app", access.UnknownClient, ""},
		{"nobody's", "b-app", access.UnknownClient, ""},
		{"other", "a-app", access.UnknownClient, ""},
		{"", "a-app", access.UnknownClient, ""},
	} {
		claims := access.Claims{ClientID: tt.client, Server: tt.server}
		d := table.Decide("GET", Target{Host: "api.test", Path: "/v1.orders"}, claims, ledgerCert)
		if d.Reason != tt.want || d.Partner != tt.partner {
			t.Errorf("server %q, client %s: %v, partner %q, want %v, partner %q", tt.server, tt.client, d.Reason, d.Partner, tt.want, tt.partner)
		}
		if got := table.Partner(tt.server, tt.client); got != tt.partner {
			t.Errorf("Partner(%q, %s) = %q, want %q", tt.server, tt.client, got, tt.partner)
		}
		if got := table.Holder(tt.server, tt.client, ledgerCert); (got == "a") != (tt.want == access.Granted) || got == "b" {
			t.Errorf("Holder(%q, %s) = %q, with reason %v", tt.server, tt.client, got, tt.want)
		}
	}
}

// TestDecideClient checks that an unknown client_id is refused before every other check.
func TestDecideClient(t *testing.T) {
	table := testTable()
	unknown := func(got string) access.Decision {
		return access.Decision{Reason: access.UnknownClient, Err: &access.Mismatch{Name: "client_id", Want: "a configured application", Got: got}}
	}
	for name, c := range map[string]struct {
		claims access.Claims
		want   access.Decision
	}{
		"zero claims":        {access.Claims{}, unknown(`none`)},
		"subject only":       {access.Claims{Subject: "northwind-ledger"}, unknown(`none`)},
		"unknown":            {access.Claims{ClientID: "eastwind"}, unknown(`"eastwind"`)},
		"partner's name":     {access.Claims{ClientID: "northwind"}, unknown(`"northwind"`)},
		"other case":         {access.Claims{ClientID: "Northwind-Ledger"}, unknown(`"Northwind-Ledger"`)},
		"space behind":       {access.Claims{ClientID: "northwind-ledger "}, unknown(`"northwind-ledger "`)},
		"disabled":           {access.Claims{ClientID: "southwind-ledger"}, access.Decision{Reason: access.PartnerDisabled, Partner: "southwind"}},
		"subject of another": {access.Claims{ClientID: "southwind-ledger", Subject: "northwind-ledger"}, access.Decision{Reason: access.PartnerDisabled, Partner: "southwind"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.ClientID, c.want.Claims = c.claims.ClientID, c.claims
			for _, path := range []string{"/v1.orders", "/unknown", "/admin"} {
				got := table.Decide("GET", Target{Host: "api.test", Path: path}, c.claims, ledgerCert)
				if got.Partner != "" && ruleOf(got) != c.claims.ClientID+" " {
					t.Errorf("%s: Rule is that of %q, want %q", path, ruleOf(got), c.claims.ClientID+" ")
				}
				got.Rule = access.Rule{}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
		})
	}
}

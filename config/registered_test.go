package config

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"net/url"
	"testing"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/testpki"
)

func mustDN(t *testing.T, s string) certname.DN {
	t.Helper()
	d, err := certname.ParseDN(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMatchesName(t *testing.T) {
	dn := RegisteredCertificate{SubjectDN: mustDN(t, "CN=a.test,O=Acme")}
	dns := RegisteredCertificate{SANDNS: "a.test"}
	both := RegisteredCertificate{SubjectDN: dn.SubjectDN, SANDNS: "a.test"}
	pinned := RegisteredCertificate{Thumbprints: []access.Thumbprint{{1}}}
	uriAndIP := RegisteredCertificate{SANURI: "https://a.test", SANIP: certname.IP{Addr: netip.MustParseAddr("192.0.2.1")}}

	acme := testpki.Subject(pkix.Name{CommonName: "a.test", Organization: []string{"Acme"}})
	uri := func(c *x509.Certificate) { c.URIs = []*url.URL{{Opaque: "a.test"}, {Scheme: "https", Host: "a.test"}} }
	email := func(c *x509.Certificate) { c.EmailAddresses = []string{"x@a.test", "a.test"} }
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("n%d.test", i)
	}
	cert := func(options ...testpki.Option) *x509.Certificate {
		return testpki.SelfSigned("a.test", options...).Cert
	}

	for name, c := range map[string]struct {
		registered RegisteredCertificate
		cert       *x509.Certificate
		want       bool
	}{
		"zero":                        {RegisteredCertificate{}, cert(acme, testpki.DNS("a.test")), false},
		"thumbprints only":            {pinned, cert(acme, testpki.DNS("a.test")), false},
		"no certificate, dn":          {dn, nil, false},
		"no certificate, dns":         {dns, nil, false},
		"zero certificate, dn":        {dn, &x509.Certificate{}, false},
		"zero certificate, dns":       {dns, &x509.Certificate{}, false},
		"dn":                          {dn, cert(acme), true},
		"dn, common name only":        {dn, cert(), false},
		"dn in the SAN only":          {dn, cert(testpki.DNS("a.test")), false},
		"dns":                         {dns, cert(testpki.DNS("a.test")), true},
		"dns, other case":             {dns, cert(testpki.DNS("A.Test")), true},
		"dns registered in capitals":  {RegisteredCertificate{SANDNS: "A.TEST"}, cert(testpki.DNS("a.test")), true},
		"dns, one of several":         {dns, cert(testpki.DNS("b.test", "a.test")), true},
		"dns, no subject (T-DN-06)":   {dns, cert(testpki.Subject(pkix.Name{}), testpki.DNS("a.test")), true},
		"dns, 1000 others (T-DN-06)":  {dns, cert(testpki.DNS(names...)), false},
		"dns, last of 1001 (T-DN-06)": {dns, cert(testpki.DNS(append(names, "a.test")...)), true},
		"dns, common name (T-DN-05)":  {dns, cert(), false},
		"dns, wildcard (T-DN-05)":     {dns, cert(testpki.DNS("*.test")), false},
		"dns, URI (T-DN-05)":          {dns, cert(uri), false},
		"dns, email (T-DN-05)":        {dns, cert(email), false},
		"dns, IP":                     {RegisteredCertificate{SANDNS: "127.0.0.1"}, cert(testpki.IP("127.0.0.1")), false},
		"dns, longer":                 {dns, cert(testpki.DNS("a.test.evil", "xa.test", "a.testx")), false},
		"dns, shorter":                {dns, cert(testpki.DNS("a.tes", "test")), false},
		"dns, trailing dot":           {RegisteredCertificate{SANDNS: "a.test."}, cert(testpki.DNS("a.test")), false},
		"wildcard registered":         {RegisteredCertificate{SANDNS: "*.test"}, cert(testpki.DNS("a.test")), false},
		"wildcard as it is":           {RegisteredCertificate{SANDNS: "*.test"}, cert(testpki.DNS("*.test")), true},
		"Kelvin sign is no k":         {RegisteredCertificate{SANDNS: "\u212a.test"}, cert(testpki.DNS("k.test")), false},
		"@ is no backquote":           {RegisteredCertificate{SANDNS: "@.test"}, cert(testpki.DNS("`.test")), false},
		"both":                        {both, cert(acme, testpki.DNS("a.test")), true},
		"both, dn only":               {both, cert(acme), false},
		"both, dns only":              {both, cert(testpki.DNS("a.test")), false},
		"uri and ip, both":            {uriAndIP, cert(uri, testpki.IP("192.0.2.1")), true},
		"uri and ip, uri only":        {uriAndIP, cert(uri), false},
		"uri and ip, ip only":         {uriAndIP, cert(testpki.IP("192.0.2.1")), false},
		"no certificate, uri and ip":  {uriAndIP, nil, false},
		"email":                       {RegisteredCertificate{SANEmail: "x@a.test"}, cert(email), true},
		"email, another":              {RegisteredCertificate{SANEmail: "y@a.test"}, cert(email), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.registered.MatchesName(c.cert); got != c.want {
				t.Errorf("MatchesName = %v, want %v", got, c.want)
			}
		})
	}
}

func TestHasName(t *testing.T) {
	for want, registered := range map[bool][]RegisteredCertificate{
		false: {{}, {Thumbprints: []access.Thumbprint{{1}}}},
		true:  {{SANDNS: "a.test"}, {SubjectDN: mustDN(t, "CN=a")}, {SANURI: "urn:a"}, {SANIP: certname.IP{Addr: netip.IPv6Unspecified()}}, {SANEmail: "a@b.test"}},
	} {
		for _, r := range registered {
			if r.HasName() != want || len(r.nameKeys()) > 0 != want {
				t.Errorf("%+v: HasName() = %v, nameKeys() = %v, want %v", r, r.HasName(), r.nameKeys(), want)
			}
			if open := !want && len(r.Thumbprints) == 0; r.MatchesAny() != open {
				t.Errorf("%+v: MatchesAny() = %v, want %v", r, r.MatchesAny(), open)
			}
		}
	}
}

func TestHasThumbprint(t *testing.T) {
	r := RegisteredCertificate{Thumbprints: []access.Thumbprint{{1}, {}, {31: 2}}}
	for thumbprint, want := range map[access.Thumbprint]bool{
		{1}: true, {31: 2}: true,
		{}: false, {2}: false, {1, 1}: false, // the zero thumbprint is never registered, even if it is listed
	} {
		if got := r.HasThumbprint(thumbprint); got != want {
			t.Errorf("HasThumbprint(%x) = %v, want %v", thumbprint, got, want)
		}
	}
	if (RegisteredCertificate{}).HasThumbprint(access.Thumbprint{1}) {
		t.Error("HasThumbprint without thumbprints = true, want false")
	}
}

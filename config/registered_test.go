package config

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMatchesName(t *testing.T) {
	dn := RegisteredCertificate{SubjectDN: mustDN(t, "CN=a.test,O=Acme")}
	dns := RegisteredCertificate{SANDNS: "a.test"}
	both := RegisteredCertificate{SubjectDN: dn.SubjectDN, SANDNS: "a.test"}
	pinned := RegisteredCertificate{Thumbprints: []Thumbprint{{1}}}

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
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.registered.MatchesName(c.cert); got != c.want {
				t.Errorf("MatchesName = %v, want %v", got, c.want)
			}
		})
	}
}

// The other kinds of names: each kind is compared with its own kind alone, in the leaf
// alone, whole, by its own rule.
func TestMatchesSAN(t *testing.T) {
	const spiffe = "spiffe://example.com/ledger"
	uri := RegisteredCertificate{SANURI: spiffe}
	ipv4, ipv6 := RegisteredCertificate{SANIP: mustIP(t, "192.0.2.1")}, RegisteredCertificate{SANIP: mustIP(t, "2001:db8::1")}
	mapped := RegisteredCertificate{SANIP: mustIP(t, "::ffff:192.0.2.1")}
	email := RegisteredCertificate{SANEmail: "Ledger@example.com"}
	raw4, raw6 := "\xc0\x00\x02\x01", "\x20\x01\x0d\xb8"+strings.Repeat("\x00", 11)+"\x01"
	raw4in6 := strings.Repeat("\x00", 10) + "\xff\xff" + raw4
	const dns, mailbox, uniform, address = 2, 1, 6, 7 // the tags of GeneralName

	for name, c := range map[string]struct {
		registered RegisteredCertificate
		names      []generalName
		want       bool
	}{
		"uri":                            {uri, []generalName{{uniform, spiffe}}, true},
		"uri, one of several":            {uri, []generalName{{dns, "a.test"}, {uniform, "urn:a"}, {uniform, spiffe}, {address, raw4}}, true},
		"uri, none":                      {uri, nil, false},
		"uri, slash behind":              {uri, []generalName{{uniform, spiffe + "/"}}, false},
		"uri, longer":                    {uri, []generalName{{uniform, spiffe + "s"}}, false},
		"uri, scheme in capitals":        {uri, []generalName{{uniform, "SPIFFE://example.com/ledger"}}, false},
		"uri, host in capitals":          {uri, []generalName{{uniform, "spiffe://EXAMPLE.com/ledger"}}, false},
		"uri, percent":                   {uri, []generalName{{uniform, "spiffe://example.com/l%65dger"}}, false},
		"uri, percent registered":        {RegisteredCertificate{SANURI: "https://a.test/%7e"}, []generalName{{uniform, "https://a.test/%7E"}}, false},
		"uri, empty fragment":            {uri, []generalName{{uniform, spiffe + "#"}}, false},
		"uri, capitals in both":          {RegisteredCertificate{SANURI: "HTTPS://A.test/%7e#"}, []generalName{{uniform, "HTTPS://A.test/%7e#"}}, true},
		"uri, as the parsed one prints":  {RegisteredCertificate{SANURI: "https://a.test/"}, []generalName{{uniform, "HTTPS://a.test/"}}, false},
		"uri, a star":                    {RegisteredCertificate{SANURI: "spiffe://example.com/*"}, []generalName{{uniform, spiffe}}, false},
		"uri, the same as dns":           {RegisteredCertificate{SANURI: "urn:a"}, []generalName{{dns, "urn:a"}}, false},
		"uri, the same as email":         {RegisteredCertificate{SANURI: "urn:a@b.test"}, []generalName{{mailbox, "urn:a@b.test"}}, false},
		"dns, the same as uri (T-DN-05)": {RegisteredCertificate{SANDNS: "urn:a.test"}, []generalName{{uniform, "urn:a.test"}}, false},

		"ip":                       {ipv4, []generalName{{address, raw4}}, true},
		"ip, v6":                   {ipv6, []generalName{{address, raw6}}, true},
		"ip, other":                {ipv4, []generalName{{address, "\xc0\x00\x02\x02"}}, false},
		"ip, text":                 {ipv4, []generalName{{dns, "192.0.2.1"}}, false},
		"ip, mapped in v6":         {ipv4, []generalName{{address, raw4in6}}, false},
		"ip, mapped registered":    {mapped, []generalName{{address, raw4}}, false},
		"ip, mapped in both":       {mapped, []generalName{{address, raw4in6}}, true},
		"ip, unspecified":          {ipv4, []generalName{{address, "\x00\x00\x00\x00"}}, false},
		"ip registered, no names":  {ipv4, nil, false},
		"ip, zero value registers": {RegisteredCertificate{SANIP: IP{}}, []generalName{{address, "\x00\x00\x00\x00"}}, false},

		"email":                       {email, []generalName{{mailbox, "Ledger@example.com"}}, true},
		"email, domain in capitals":   {email, []generalName{{mailbox, "Ledger@EXAMPLE.Com"}}, true},
		"email, local in capitals":    {email, []generalName{{mailbox, "LEDGER@example.com"}}, false},
		"email, longer domain":        {email, []generalName{{mailbox, "Ledger@example.com.evil.test"}}, false},
		"email, subdomain":            {email, []generalName{{mailbox, "Ledger@sub.example.com"}}, false},
		"email, domain only":          {email, []generalName{{mailbox, "example.com"}, {mailbox, "@example.com"}}, false},
		"email, two @":                {email, []generalName{{mailbox, "x@Ledger@example.com"}, {mailbox, "Ledger@x@example.com"}}, false},
		"email, dns":                  {email, []generalName{{dns, "Ledger@example.com"}}, false},
		"email, URI":                  {email, []generalName{{uniform, "mailto:Ledger@example.com"}}, false},
		"email, last of several":      {email, []generalName{{mailbox, "a@example.com"}, {mailbox, "Ledger@example.com"}}, true},
		"email registered, no domain": {RegisteredCertificate{SANEmail: "Ledger"}, []generalName{{mailbox, "Ledger"}}, false},

		"two names, one carried":  {RegisteredCertificate{SANURI: spiffe, SANIP: ipv4.SANIP}, []generalName{{uniform, spiffe}}, false},
		"two names, both carried": {RegisteredCertificate{SANURI: spiffe, SANIP: ipv4.SANIP}, []generalName{{uniform, spiffe}, {address, raw4}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			// T-DN-06: a certificate with no subject.
			cert := testpki.SelfSigned("", testpki.Subject(pkix.Name{}), subjectAltNames(c.names...)).Cert
			if got := c.registered.MatchesName(cert); got != c.want {
				t.Errorf("MatchesName = %v, want %v", got, c.want)
			}
		})
	}
	for _, r := range []RegisteredCertificate{uri, ipv4, email} {
		if r.MatchesName(&x509.Certificate{}) || r.MatchesName(nil) {
			t.Errorf("%v matches no certificate", r.names())
		}
	}
}

// A generalName is one name of a subjectAltName as it is encoded.
type generalName struct {
	tag     int
	content string
}

// subjectAltNames encodes names by encoding/asn1, since crypto/x509 would write URIs
// and addresses in its own way.
func subjectAltNames(names ...generalName) testpki.Option {
	return func(c *x509.Certificate) {
		if len(names) == 0 {
			return
		}
		var list []asn1.RawValue
		for _, n := range names {
			list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: n.tag, Bytes: []byte(n.content)})
		}
		der, err := asn1.Marshal(list)
		if err != nil {
			panic(err)
		}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: subjectAltName, Value: der})
	}
}

func mustIP(t *testing.T, text string) IP {
	t.Helper()
	var ip IP
	if err := ip.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return ip
}

// What stands in the certificate comes out, not what net/url makes of it.
func TestURIs(t *testing.T) {
	want := []string{"HTTPS://a.test/%7e#", "urn:a", "spiffe://example.com/a"}
	cert := testpki.SelfSigned("a", subjectAltNames(generalName{6, want[0]}, generalName{2, "a.test"}, generalName{6, want[1]}, generalName{6, want[2]})).Cert
	if diff := cmp.Diff(want, URIs(cert)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if cert.URIs[0].String() == want[0] {
		t.Error("net/url keeps the spelling, and this test shows nothing")
	}
	if got := URIs(testpki.SelfSigned("a").Cert); got != nil {
		t.Errorf("a certificate without names has %q", got)
	}
	// Extensions that crypto/x509 would not have let through.
	for _, value := range []string{"", "30", "3003860161ff", "30038605ff", "31038601", "3080860161"} {
		der, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		malformed := &x509.Certificate{Extensions: []pkix.Extension{{Id: subjectAltName, Value: der}}}
		if got := URIs(malformed); len(got) > 0 {
			t.Errorf("%s has %q", value, got)
		}
	}
}

func TestMatchesNameAllocatesNothing(t *testing.T) {
	cert := testpki.SelfSigned("a", subjectAltNames(generalName{6, "urn:b"}, generalName{6, "urn:a"}, generalName{1, "a@b.test"}, generalName{7, "\x7f\x00\x00\x01"})).Cert
	for _, r := range []RegisteredCertificate{{SANURI: "urn:a"}, {SANEmail: "a@b.test"}, {SANIP: mustIP(t, "127.0.0.1")}} {
		if n := testing.AllocsPerRun(100, func() {
			if !r.MatchesName(cert) {
				t.Error("no match")
			}
		}); n > 0 {
			t.Errorf("%v takes %v allocations", r.names(), n)
		}
	}
}

func TestNames(t *testing.T) {
	for want, registered := range map[bool][]RegisteredCertificate{
		false: {{}, {Thumbprints: []Thumbprint{{1}}}},
		true:  {{SANDNS: "a.test"}, {SubjectDN: mustDN(t, "CN=a")}, {SANURI: "urn:a"}, {SANIP: mustIP(t, "::")}, {SANEmail: "a@b.test"}},
	} {
		for _, r := range registered {
			if r.Names() != want || len(r.names()) > 0 != want {
				t.Errorf("%+v: Names() = %v", r, r.Names())
			}
			if open := !want && len(r.Thumbprints) == 0; r.Open() != open {
				t.Errorf("%+v: Open() = %v", r, r.Open())
			}
		}
	}
}

func TestPins(t *testing.T) {
	r := RegisteredCertificate{Thumbprints: []Thumbprint{{1}, {}, {31: 2}}}
	for thumbprint, want := range map[[32]byte]bool{
		{1}: true, {31: 2}: true,
		{}: false, {2}: false, {1, 1}: false, // the zero thumbprint, registered or not, pins nothing
	} {
		if got := r.Pins(thumbprint); got != want {
			t.Errorf("Pins(%x) = %v", thumbprint, got)
		}
	}
	if (RegisteredCertificate{}).Pins([32]byte{1}) {
		t.Error("nothing is registered, and yet pinned")
	}
}

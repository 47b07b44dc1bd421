package certname

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/testpki"
)

// dnsName gives HasDNSName the form of the other kinds.
type dnsName string

func (d dnsName) Matches(cert *x509.Certificate) bool { return HasDNSName(cert, string(d)) }

// Each kind of name is compared with the entries of its own kind alone, in the leaf alone, as a
// whole and by its own rule.
func TestMatchesSAN(t *testing.T) {
	const spiffe = "spiffe://example.com/ledger"
	uri, email := URI(spiffe), Email("Ledger@example.com")
	ipv4, ipv6, mapped := mustIP(t, "192.0.2.1"), mustIP(t, "2001:db8::1"), mustIP(t, "::ffff:192.0.2.1")
	raw4, raw6 := "\xc0\x00\x02\x01", "\x20\x01\x0d\xb8"+strings.Repeat("\x00", 11)+"\x01"
	raw4in6 := strings.Repeat("\x00", 10) + "\xff\xff" + raw4
	tagged := func(tag int) func(string) testpki.GeneralName {
		return func(content string) testpki.GeneralName { return testpki.GeneralName{Tag: tag, Content: content} }
	}
	mailbox, dns, uniform, address := tagged(1), tagged(2), tagged(6), tagged(7)

	for line, c := range map[string]struct {
		name  interface{ Matches(*x509.Certificate) bool }
		names []testpki.GeneralName
		want  bool
	}{
		"uri":                            {uri, []testpki.GeneralName{uniform(spiffe)}, true},
		"uri, one of several":            {uri, []testpki.GeneralName{dns("a.test"), uniform("urn:a"), uniform(spiffe), address(raw4)}, true},
		"uri, none":                      {uri, nil, false},
		"uri, slash behind":              {uri, []testpki.GeneralName{uniform(spiffe + "/")}, false},
		"uri, longer":                    {uri, []testpki.GeneralName{uniform(spiffe + "s")}, false},
		"uri, scheme in capitals":        {uri, []testpki.GeneralName{uniform("SPIFFE://example.com/ledger")}, false},
		"uri, host in capitals":          {uri, []testpki.GeneralName{uniform("spiffe://EXAMPLE.com/ledger")}, false},
		"uri, percent":                   {uri, []testpki.GeneralName{uniform("spiffe://example.com/l%65dger")}, false},
		"uri, percent in the name":       {URI("https://a.test/%7e"), []testpki.GeneralName{uniform("https://a.test/%7E")}, false},
		"uri, empty fragment":            {uri, []testpki.GeneralName{uniform(spiffe + "#")}, false},
		"uri, capitals in both":          {URI("HTTPS://A.test/%7e#"), []testpki.GeneralName{uniform("HTTPS://A.test/%7e#")}, true},
		"uri, as the parsed one prints":  {URI("https://a.test/"), []testpki.GeneralName{uniform("HTTPS://a.test/")}, false},
		"uri, a star":                    {URI("spiffe://example.com/*"), []testpki.GeneralName{uniform(spiffe)}, false},
		"uri, the same as dns":           {URI("urn:a"), []testpki.GeneralName{dns("urn:a")}, false},
		"uri, the same as email":         {URI("urn:a@b.test"), []testpki.GeneralName{mailbox("urn:a@b.test")}, false},
		"dns, the same as uri (T-DN-05)": {dnsName("urn:a.test"), []testpki.GeneralName{uniform("urn:a.test")}, false},

		"ip":                     {ipv4, []testpki.GeneralName{address(raw4)}, true},
		"ip, v6":                 {ipv6, []testpki.GeneralName{address(raw6)}, true},
		"ip, other":              {ipv4, []testpki.GeneralName{address("\xc0\x00\x02\x02")}, false},
		"ip, text":               {ipv4, []testpki.GeneralName{dns("192.0.2.1")}, false},
		"ip, mapped in v6":       {ipv4, []testpki.GeneralName{address(raw4in6)}, false},
		"ip, mapped in the name": {mapped, []testpki.GeneralName{address(raw4)}, false},
		"ip, mapped in both":     {mapped, []testpki.GeneralName{address(raw4in6)}, true},
		"ip, unspecified":        {ipv4, []testpki.GeneralName{address("\x00\x00\x00\x00")}, false},
		"ip, no names":           {ipv4, nil, false},
		"ip, zero value":         {IP{}, []testpki.GeneralName{address("\x00\x00\x00\x00")}, false},

		"email":                        {email, []testpki.GeneralName{mailbox("Ledger@example.com")}, true},
		"email, domain in capitals":    {email, []testpki.GeneralName{mailbox("Ledger@EXAMPLE.Com")}, true},
		"email, local in capitals":     {email, []testpki.GeneralName{mailbox("LEDGER@example.com")}, false},
		"email, longer domain":         {email, []testpki.GeneralName{mailbox("Ledger@example.com.evil.test")}, false},
		"email, subdomain":             {email, []testpki.GeneralName{mailbox("Ledger@sub.example.com")}, false},
		"email, domain only":           {email, []testpki.GeneralName{mailbox("example.com"), mailbox("@example.com")}, false},
		"email, two @":                 {email, []testpki.GeneralName{mailbox("x@Ledger@example.com"), mailbox("Ledger@x@example.com")}, false},
		"email, dns":                   {email, []testpki.GeneralName{dns("Ledger@example.com")}, false},
		"email, URI":                   {email, []testpki.GeneralName{uniform("mailto:Ledger@example.com")}, false},
		"email, last of several":       {email, []testpki.GeneralName{mailbox("a@example.com"), mailbox("Ledger@example.com")}, true},
		"email, no domain in the name": {Email("Ledger"), []testpki.GeneralName{mailbox("Ledger")}, false},
	} {
		t.Run(line, func(t *testing.T) {
			// T-DN-06: a certificate with no subject.
			cert := testpki.SelfSigned("", testpki.Subject(pkix.Name{}), testpki.SubjectAltNames(c.names...)).Cert
			if got := c.name.Matches(cert); got != c.want {
				t.Errorf("%T(%v).Matches = %v, want %v", c.name, c.name, got, c.want)
			}
		})
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

// URIs returns the octets of the certificate, not the form that net/url prints.
func TestURIs(t *testing.T) {
	want := []string{"HTTPS://a.test/%7e#", "urn:a", "spiffe://example.com/a"}
	names := []testpki.GeneralName{{Tag: 6, Content: want[0]}, {Tag: 2, Content: "a.test"}, {Tag: 6, Content: want[1]}, {Tag: 6, Content: want[2]}}
	cert := testpki.SelfSigned("a", testpki.SubjectAltNames(names...)).Cert
	if diff := cmp.Diff(want, URIs(cert)); diff != "" {
		t.Errorf("URIs (-want +got):\n%s", diff)
	}
	if got := cert.URIs[0].String(); got == want[0] {
		t.Errorf("net/url prints %q unchanged, so this test proves nothing", got)
	}
	if got := URIs(testpki.SelfSigned("a").Cert); got != nil {
		t.Errorf("URIs of a certificate without names = %q, want nil", got)
	}
	// Extensions that crypto/x509 would refuse.
	for _, value := range []string{"", "30", "3003860161ff", "30038605ff", "31038601", "3080860161"} {
		der, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		malformed := &x509.Certificate{Extensions: []pkix.Extension{{Id: subjectAltName, Value: der}}}
		if got := URIs(malformed); len(got) > 0 {
			t.Errorf("URIs of the extension %s = %q, want none", value, got)
		}
	}
}

func TestMatchesSANAllocations(t *testing.T) {
	cert := testpki.SelfSigned("a", testpki.SubjectAltNames([]testpki.GeneralName{
		{Tag: 6, Content: "urn:b"}, {Tag: 6, Content: "urn:a"}, {Tag: 1, Content: "a@b.test"}, {Tag: 7, Content: "\x7f\x00\x00\x01"}, {Tag: 2, Content: "a.test"},
	}...)).Cert
	ip := mustIP(t, "127.0.0.1")
	for kind, matches := range map[string]func() bool{
		"URI":   func() bool { return URI("urn:a").Matches(cert) },
		"Email": func() bool { return Email("a@b.test").Matches(cert) },
		"IP":    func() bool { return ip.Matches(cert) },
		"DNS":   func() bool { return HasDNSName(cert, "A.test") },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if !matches() {
				t.Errorf("%s: got no match, want one", kind)
			}
		}); n > 0 {
			t.Errorf("%s: got %v allocations, want 0", kind, n)
		}
	}
}

// name is a pointer to a kind of name.
type name[T any] interface {
	*T
	encoding.TextUnmarshaler
}

// parsesAs checks that text is parsed as want.
func parsesAs[T comparable, P name[T]](t *testing.T, text string, want T) {
	t.Helper()
	var got T
	if err := P(&got).UnmarshalText([]byte(text)); err != nil || got != want {
		t.Errorf("%T.UnmarshalText(%q) set %v, %v, want %v", got, text, got, err, want)
	}
}

// refuses checks that each of texts is refused and leaves the value unchanged.
func refuses[T comparable, P name[T]](t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		var got, zero T
		if err := P(&got).UnmarshalText([]byte(text)); err == nil || got != zero {
			t.Errorf("%T.UnmarshalText(%q) set %v, %v, want no change and an error", got, text, got, err)
		}
	}
}

func TestUnmarshalSAN(t *testing.T) {
	control := []string{"a\x00", "a\nb", "a\r\nb", "a\x7f", "a\tb", "é", "a b"}
	for _, u := range []URI{"spiffe://example.com/ledger", "urn:uuid:f81d4fae", "HTTPS://A.example/%7E/", "a+b-c.1:x"} {
		parsesAs(t, string(u), u)
	}
	refuses[URI](t, "", "ledger", "/ledger", "//example.com/a", ":a", "a:", "1a:b", "a b:c", "https://a/%zz", "https://a b", "http://[::1", "sp\u00efffe://a")
	refuses[URI](t, control...)

	parsesAs[Email](t, "Ledger@EXAMPLE.com", "Ledger@example.com")
	parsesAs[Email](t, "a.b+c/d=e@x-1.example", "a.b+c/d=e@x-1.example")
	refuses[Email](t, "", "@", "a@", "@a.example", "a.example", "a@b@c.example", "a b@c.example", `"a b"@c.example`, "A <a@b.example>", "a,b@c.example",
		"mailto:a@b.example", "a@b.example.", "a@*.example\n", "a@[192.0.2.1]", "a@192.0.2.1")
	refuses[Email](t, control...)

	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:DB8:0::1": "2001:db8::1", "0:0:0:0:0:0:0:1": "::1", "::ffff:192.0.2.1": "::ffff:192.0.2.1", "::ffff:c000:201": "::ffff:192.0.2.1",
	} {
		parsesAs(t, text, IP{netip.MustParseAddr(want)})
	}
	refuses[IP](t, "", "fe80::1%eth0", "fe80::1%25eth0", "[::1]", "192.0.2.1:443", "[::1]:443", "192.0.2.0/24", "192.0.2", "192.0.2.01", "0x7f.1", "localhost", " ::1", "192.0.2.1\n")
}

package config

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/testpki"
)

// Every name that certname.List returns can be pasted into a configuration, and the certificate
// then matches it.
func TestCertificateNames(t *testing.T) {
	organization := []string{`Acme, "Inc." + <Söhne>; \ #1`}
	raw4 := "\xc0\x00\x02\x01"
	mapped := strings.Repeat("\x00", 10) + "\xff\xff" + raw4
	for name, tt := range map[string]struct {
		options []testpki.Option
		want    []certname.Name
	}{
		"all kinds": {
			[]testpki.Option{
				testpki.Subject(pkix.Name{CommonName: " ledger ", Organization: organization, OrganizationalUnit: []string{"b", "a"}, Country: []string{"DE"}}),
				testpki.SubjectAltNames(testpki.GeneralName{Tag: 2, Content: "a.test"}, testpki.GeneralName{Tag: 2, Content: "*.A.test"}, testpki.GeneralName{Tag: 6, Content: "HTTPS://a.test/%7e#"}, testpki.GeneralName{Tag: 7, Content: raw4},
					testpki.GeneralName{Tag: 7, Content: mapped}, testpki.GeneralName{Tag: 1, Content: "Ledger@A.test"}),
			},
			[]certname.Name{
				{Key: "subject_dn", Value: `CN=\ ledger\ ,OU=a+OU=b,O=Acme\, \"Inc.\" \+ \<Söhne\>\; \\ #1,C=DE`},
				{Key: "san_dns", Value: "a.test"}, {Key: "san_dns", Value: "*.A.test"},
				{Key: "san_uri", Value: "HTTPS://a.test/%7e#"},
				{Key: "san_ip", Value: "192.0.2.1"}, {Key: "san_ip", Value: "::ffff:192.0.2.1"},
				{Key: "san_email", Value: "Ledger@A.test"},
			},
		},
		"no names (T-DN-06)": {[]testpki.Option{testpki.Subject(pkix.Name{})}, nil},
		"hostile names": {
			[]testpki.Option{
				testpki.Subject(pkix.Name{CommonName: "a\x1b[2J\u009b\u202eb\n", Organization: []string{"#x\x7f"}}),
				testpki.SubjectAltNames(testpki.GeneralName{Tag: 2, Content: "a\x1b[2J.test"}, testpki.GeneralName{Tag: 2, Content: "a test"}, testpki.GeneralName{Tag: 1, Content: "\x1b[2J@a.test"}, testpki.GeneralName{Tag: 1, Content: "a@b@c.test"}, testpki.GeneralName{Tag: 1, Content: `"a"@b.test`}),
			},
			[]certname.Name{{Key: "subject_dn", Value: `CN=a\1b[2J\c2\9b\e2\80\aeb\0a,O=\#x\7f`}},
		},
		"an attribute whose text readers differ on": {
			[]testpki.Option{testpki.Subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte("O\xe4")}},
			}})},
			[]certname.Name{{Key: "subject_dn", Value: "1.2.3.4=#14024fe4"}},
		},
		"an empty attribute": {
			[]testpki.Option{testpki.Subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: ""}}})}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cert := testpki.SelfSigned("", tt.options...).Cert
			got := certname.List(cert)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("List (-want +got):\n%s", diff)
			}
			for _, n := range got {
				checkRegistered(t, n, cert)
			}
		})
	}
}

// checkRegistered checks that n is a valid registration and that cert matches it.
func checkRegistered(t *testing.T, n certname.Name, cert *x509.Certificate) {
	t.Helper()
	c, err := Parse("file.yaml", "", []byte(minimalHead+`partners:
  list:
    - name: northwind
      trust: [ca.pem]
      applications:
        - client_id: ledger
          apis: [accounts]
          certificate:
            `+n.Key+": "+strconv.Quote(n.Value)+"\n"))
	if err != nil {
		t.Errorf("Parse with %s %q: %v", n.Key, n.Value, err)
		return
	}
	if !c.Partners.List[0].Applications[0].Certificate.MatchesName(cert) {
		t.Errorf("MatchesName with %s %q = false, want true", n.Key, n.Value)
	}
}

// List never panics, and each name that it returns prints and matches.
func FuzzCertificateNames(f *testing.F) {
	subjectAltName := asn1.ObjectIdentifier{2, 5, 29, 17}
	for _, options := range [][]testpki.Option{
		{testpki.Subject(pkix.Name{CommonName: "a\x1b", OrganizationalUnit: []string{"b", "c"}}), testpki.SubjectAltNames(testpki.GeneralName{Tag: 6, Content: "urn:a"}, testpki.GeneralName{Tag: 2, Content: "a.test"})},
		{testpki.Subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte("\xe4")}}}}), testpki.SubjectAltNames(testpki.GeneralName{Tag: 6, Content: "a:%1b"})},
	} {
		cert := testpki.SelfSigned("", options...).Cert
		for _, e := range cert.Extensions {
			if e.Id.Equal(subjectAltName) {
				f.Add(cert.RawSubject, e.Value)
			}
		}
	}
	f.Fuzz(func(t *testing.T, subject, names []byte) {
		cert := &x509.Certificate{RawSubject: subject, Extensions: []pkix.Extension{{Id: subjectAltName, Value: names}}}
		for _, n := range certname.List(cert) {
			if strings.ContainsFunc(n.Value, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("List returned %s %q, want printable characters only", n.Key, n.Value)
			}
			checkRegistered(t, n, cert)
		}
	})
}

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

	"github.com/tallygate/tallygate/internal/testpki"
)

// Every name that comes out can be pasted into a configuration and is then matched by
// the certificate.
func TestCertificateNames(t *testing.T) {
	organization := []string{`Acme, "Inc." + <Söhne>; \ #1`}
	raw4 := "\xc0\x00\x02\x01"
	mapped := strings.Repeat("\x00", 10) + "\xff\xff" + raw4
	for name, tt := range map[string]struct {
		options []testpki.Option
		want    []CertificateName
	}{
		"all kinds": {
			[]testpki.Option{
				testpki.Subject(pkix.Name{CommonName: " ledger ", Organization: organization, OrganizationalUnit: []string{"b", "a"}, Country: []string{"DE"}}),
				subjectAltNames(generalName{2, "a.test"}, generalName{2, "*.A.test"}, generalName{6, "HTTPS://a.test/%7e#"}, generalName{7, raw4},
					generalName{7, mapped}, generalName{1, "Ledger@A.test"}),
			},
			[]CertificateName{
				{"subject_dn", `CN=\ ledger\ ,OU=a+OU=b,O=Acme\, \"Inc.\" \+ \<Söhne\>\; \\ #1,C=DE`},
				{"san_dns", "a.test"}, {"san_dns", "*.A.test"},
				{"san_uri", "HTTPS://a.test/%7e#"},
				{"san_ip", "192.0.2.1"}, {"san_ip", "::ffff:192.0.2.1"},
				{"san_email", "Ledger@A.test"},
			},
		},
		"no names (T-DN-06)": {[]testpki.Option{testpki.Subject(pkix.Name{})}, nil},
		"hostile names": {
			[]testpki.Option{
				testpki.Subject(pkix.Name{CommonName: "a\x1b[2J\u009b\u202eb\n", Organization: []string{"#x\x7f"}}),
				subjectAltNames(generalName{2, "a\x1b[2J.test"}, generalName{2, "a test"}, generalName{1, "\x1b[2J@a.test"}, generalName{1, "a@b@c.test"}, generalName{1, `"a"@b.test`}),
			},
			[]CertificateName{{"subject_dn", `CN=a\1b[2J\c2\9b\e2\80\aeb\0a,O=\#x\7f`}},
		},
		"an attribute whose text readers differ on": {
			[]testpki.Option{testpki.Subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte("O\xe4")}},
			}})},
			[]CertificateName{{"subject_dn", "1.2.3.4=#14024fe4"}},
		},
		"an empty attribute": {
			[]testpki.Option{testpki.Subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: ""}}})}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cert := testpki.SelfSigned("", tt.options...).Cert
			got := CertificateNames(cert)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, n := range got {
				pasted(t, n, cert)
			}
		})
	}
}

// pasted fails unless a configuration with the name n takes cert.
func pasted(t *testing.T, n CertificateName, cert *x509.Certificate) {
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
		t.Errorf("%s %q is not taken: %v", n.Key, n.Value, err)
		return
	}
	if !c.Partners.List[0].Applications[0].Certificate.MatchesName(cert) {
		t.Errorf("%s %q does not match its certificate", n.Key, n.Value)
	}
}

// Whatever stands in a subject or in a subjectAltName: no panic, and what comes out
// prints and matches.
func FuzzCertificateNames(f *testing.F) {
	seeds := 0
	for _, options := range [][]testpki.Option{
		{testpki.Subject(pkix.Name{CommonName: "a\x1b", OrganizationalUnit: []string{"b", "c"}}), subjectAltNames(generalName{6, "urn:a"}, generalName{2, "a.test"})},
		{testpki.Subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte("\xe4")}}}}), subjectAltNames(generalName{6, "a:%1b"})},
	} {
		cert := testpki.SelfSigned("", options...).Cert
		for _, e := range cert.Extensions {
			if e.Id.Equal(subjectAltName) {
				f.Add(cert.RawSubject, e.Value)
				seeds++
			}
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, subject, names []byte) {
		cert := &x509.Certificate{RawSubject: subject, Extensions: []pkix.Extension{{Id: subjectAltName, Value: names}}}
		for _, n := range CertificateNames(cert) {
			if strings.ContainsFunc(n.Value, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s %q does not print", n.Key, n.Value)
			}
			pasted(t, n, cert)
		}
	})
}

package rules_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/rules"
)

// named replaces the subject by these attributes, in the order of the encoding.
func named(attributes ...pkix.AttributeTypeAndValue) testpki.Option {
	return testpki.Subject(pkix.Name{ExtraNames: attributes})
}

func attribute(value any, oid ...int) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

// ia5 is a string of the type of DC and emailAddress.
func ia5(text string) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(text)}
}

var (
	domain       = attribute(ia5("northwind"), 0, 9, 2342, 19200300, 100, 1, 25)
	mail         = attribute(ia5("ledger@northwind.example"), 1, 2, 840, 113549, 1, 9, 1)
	organization = attribute("VATDE-123456789", 2, 5, 4, 97)
	unknown      = attribute("x", 1, 3, 6, 1, 4, 1, 99999, 1)
	common       = attribute(` ledger, "1"\`+"\x1b ", 2, 5, 4, 3)
)

// Rules see the subject, the issuer and every SAN in the notation that tallygate prints names in
// for registration, which differs from Go's.
func TestNameNotation(t *testing.T) {
	multiple := testpki.Subject(pkix.Name{CommonName: "ledger", OrganizationalUnit: []string{"aa", "c"}}) // DER sorts the shorter value first
	for name, option := range map[string]testpki.Option{
		"DC": named(domain, common), "emailAddress": named(common, mail), "organizationIdentifier": named(organization),
		"unknown": named(unknown, common), "all": named(domain, organization, unknown, mail, common), "two in one": multiple,
	} {
		t.Run(name, func(t *testing.T) {
			ca := testpki.NewCA("", option)
			pair := ca.Leaf("", option, testpki.DNS("Ledger.northwind.example"), testpki.IP("192.0.2.1", "2001:db8::1"))
			in := input()
			in.Certificate = pair.Cert
			// IPv4-mapped IPv6, which Go's encoder never writes.
			in.Certificate.IPAddresses = append(in.Certificate.IPAddresses, net.ParseIP("192.0.2.2"))
			issuer := certname.List(ca.Cert)[0]
			names := append(certname.List(in.Certificate), certname.Name{Key: "issuer_dn", Value: issuer.Value})
			if len(names) != 6 || names[0].Key != "subject_dn" || names[0].Value != issuer.Value {
				t.Fatalf("CertificateNames returned %q", names)
			}
			if names[0].Value == pair.Cert.Subject.String() {
				t.Fatal("the notation equals Go's, so the test proves nothing")
			}
			for _, n := range names {
				sees := "certificate." + n.Key + " == " + strconv.Quote(n.Value)
				if strings.HasPrefix(n.Key, "san_") {
					sees = strconv.Quote(n.Value) + " in certificate." + n.Key
				}
				p := compile(t, config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: sees, Refuse: "shut out"}}})
				_, err := p.Decide(in, nil)
				if err == nil || err.Error() != "workspace rule r: shut out" {
					t.Errorf("the rule %s: Decide returned %v, want its refusal", sees, err)
				}
			}
			var trace rules.Trace
			if _, err := compile(t, config.Governance{}).Decide(in, &trace); err != nil {
				t.Fatal(err)
			}
			saw := trace.Saw["certificate"].(*rules.Certificate)
			if diff := cmp.Diff([]string{names[0].Value, issuer.Value}, []string{saw.SubjectDN, saw.IssuerDN}); diff != "" {
				t.Errorf("the trace differs (-want +got):\n%s", diff)
			}
		})
	}
}

// A name that the configuration cannot express makes rules that read the certificate refuse.
// Other rules are unaffected.
func TestInexpressibleNames(t *testing.T) {
	odd := named(common, attribute("", 2, 5, 4, 10))
	ca := testpki.NewCA("Northwind CA")
	tests := []struct {
		name, when string
		cert       *testpki.Pair
		error      string
	}{
		{"subject", `certificate.subject_dn.contains("evil")`, ca.Leaf("", odd), "subject cannot be written"},
		{"issuer", `certificate.issuer_dn.contains("evil")`, testpki.NewCA("", odd).Leaf("ledger"), "issuer cannot be written"},
		{"elsewhere", `client.id == "another"`, ca.Leaf("", odd), ""},
		{"empty", `certificate.subject_dn != ""`, ca.Leaf("", named()), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := input()
			in.Certificate = test.cert.Cert
			_, err := compile(t, config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: test.when, Refuse: "shut out"}}}).Decide(in, nil)
			var refusal *rules.Refusal
			switch {
			case test.error == "" && err != nil, test.error != "" && (!errors.As(err, &refusal) || !strings.Contains(err.Error(), test.error)):
				t.Errorf("Decide returned %v, want an error with %q", err, test.error)
			}
		})
	}
}

// Without a certificate, every rule that reads a member of certificate refuses. Other rules are
// unaffected.
func TestNoCertificate(t *testing.T) {
	in := input()
	in.Certificate, in.Thumbprint = nil, ""
	refuses := func(when string) config.Governance {
		return config.Governance{Workspace: []config.WorkspaceRule{{Name: "r", When: when, Refuse: "shut out"}}}
	}
	noCertificate := "rule r could not be evaluated: the request has no client certificate"
	tests := []struct {
		name  string
		rules config.Governance
		error string
	}{
		{"deny", refuses(`certificate.subject_dn == "CN=evil"`), noCertificate},
		{"allow", refuses(`certificate.subject_dn != ""`), noCertificate},
		{"list", refuses(`certificate.san_dns.exists(n, n == "evil.example")`), noCertificate},
		{"presence", refuses(`has(certificate.serial)`), noCertificate},
		{"thumbprint", refuses(`certificate.thumbprint in ["a"]`), noCertificate},
		{"whole", refuses(`dyn(certificate) == dyn(client)`), noCertificate},
		{"claim", config.Governance{Claims: []config.ClaimRule{{Name: "r", Claim: "name", Value: `certificate.subject_dn`}}}, noCertificate},
		{"undecided", refuses(`client.id == "another" || certificate.serial == "1"`), noCertificate},
		{"decided", refuses(`client.id == "another" && certificate.serial == "1"`), ""},
		{"client", refuses(`client.id == "another"`), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var trace rules.Trace
			_, err := compile(t, test.rules).Decide(in, &trace)
			var refusal *rules.Refusal
			switch {
			case test.error == "" && err != nil, test.error != "" && (!errors.As(err, &refusal) || !strings.HasSuffix(err.Error(), test.error)):
				t.Errorf("Decide returned %v, want an error with %q", err, test.error)
			}
			if text, err := json.Marshal(trace.Saw["certificate"]); err != nil || string(text) != "null" {
				t.Errorf("the trace has the certificate %s, %v; want null", text, err)
			}
		})
	}
}

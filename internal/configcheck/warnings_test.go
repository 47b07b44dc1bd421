package configcheck

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A folder holds the files of a configuration.
type folder struct {
	*testing.T
	dir string
}

func newFolder(t *testing.T) folder {
	f := folder{t, t.TempDir()}
	f.write("gate.pem", testpki.SelfSigned("gate", testpki.DNS("api.example.test"), year).CertPEM())
	f.write("ca.pem", testpki.NewCA("Northwind", year).CertPEM())
	return f
}

// year sets a validity of a year.
var year = testpki.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0))

func (f folder) write(name string, content []byte) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), content, 0o600); err != nil {
		f.Fatal(err)
	}
}

// plain is a configuration without warnings.
const plain = `
listener: {certificate: {files: {certificate: gate.pem, key: gate-key.pem}}}
authorization_servers: [{name: as, issuer: "https://as.test", audiences: [a]}]
apis:
  - {name: accounts, hosts: [api.example.test], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: "/accounts/{id}"}]}
partners: {list: [{name: northwind, trust: [ca.pem], applications: [{client_id: ledger, certificate: {subject_dn: "CN=ledger"}, apis: [accounts]}]}]}
`

// warnings returns the warnings about plain after the replacements of pairs of old and new text.
func (f folder) warnings(pairs ...string) string {
	f.Helper()
	cfg, err := config.Parse("gate.yaml", f.dir, []byte(strings.NewReplacer(pairs...).Replace(plain)))
	if err != nil {
		f.Fatal(err)
	}
	return Warnings(cfg, time.Now()).Error()
}

func (f folder) want(got, part string) {
	f.Helper()
	if part == "" && got != "" || !strings.Contains(got, part) || strings.Contains(got, "\n") {
		f.Errorf("warnings: got %q, want one with %q", got, part)
	}
}

func TestPlainHasNoWarnings(t *testing.T) {
	f := newFolder(t)
	f.want(f.warnings(), "")
}

func TestGateCertificate(t *testing.T) {
	names, now := testpki.DNS("api.example.test"), time.Now()
	ca := testpki.NewCA("Root", year)
	middle := ca.Intermediate("Middle", year)
	leaf := middle.Leaf("gate", names, year)
	for _, tt := range []struct {
		name  string
		chain []byte
		want  string
	}{
		{"later", testpki.SelfSigned("gate", names, testpki.Valid(now.Add(time.Hour), now.AddDate(1, 0, 0))).CertPEM(), "not valid before"},
		{"expired", testpki.SelfSigned("gate", names, testpki.Expired()).CertPEM(), "has expired"},
		{"13 days left", testpki.SelfSigned("gate", names, testpki.Valid(now.Add(-time.Hour), now.AddDate(0, 0, 13))).CertPEM(), "ends within 14 days"},
		{"15 days left", testpki.SelfSigned("gate", names, testpki.Valid(now.Add(-time.Hour), now.AddDate(0, 0, 15))).CertPEM(), ""},
		{"for clients", testpki.SelfSigned("gate", names, year, testpki.Usage(x509.ExtKeyUsageClientAuth)).CertPEM(), "without serverAuth"},
		{"for everything", testpki.SelfSigned("gate", names, year, testpki.Usage(x509.ExtKeyUsageAny)).CertPEM(), ""},
		{"without usages", testpki.SelfSigned("gate", names, year, testpki.Usage()).CertPEM(), ""},
		{"another name", testpki.SelfSigned("gate", testpki.DNS("gate.example.test"), year).CertPEM(), "no subjectAltName for api.example.test"},
		{"a wildcard", testpki.SelfSigned("gate", testpki.DNS("*.example.test"), year).CertPEM(), ""},
		{"a chain", bytes.Join([][]byte{leaf.CertPEM(), ca.CertPEM()}, nil), ""},
		{"root before intermediate", bytes.Join([][]byte{onlyLeaf(leaf), ca.CertPEM(), onlyLeaf(middle)}, nil), "wrong order"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFolder(t)
			f.write("gate.pem", tt.chain)
			f.want(f.warnings(), tt.want)
		})
	}
}

// onlyLeaf returns the certificate of p without intermediates.
func onlyLeaf(p *testpki.Pair) []byte { return (&testpki.Pair{Cert: p.Cert, Key: p.Key}).CertPEM() }

func TestAnchors(t *testing.T) {
	f := newFolder(t)
	f.write("ca.pem", testpki.NewCA("Northwind", testpki.Expired()).CertPEM())
	f.want(f.warnings(), "ca.pem:1: the anchor CN=Northwind has expired")
}

// A subject in the order of openssl causes no warning if the authority orders names this way.
func TestSubjectOrder(t *testing.T) {
	f := newFolder(t)
	const printed = "C=DE,O=Northwind,CN=ledger"
	f.want(f.warnings("CN=ledger", printed), "the other way round: CN=ledger,O=Northwind,C=DE")
	f.write("ca.pem", testpki.NewCA("Northwind", year, testpki.Subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: []int{2, 5, 4, 3}, Value: "Root"}, {Type: []int{2, 5, 4, 6}, Value: "DE"},
	}})).CertPEM())
	f.want(f.warnings("CN=ledger", printed), "")
}

// A route of another API takes requests only on the same host, with the same method, and if it is more
// specific.
func TestShadowedRoutes(t *testing.T) {
	for _, tt := range []struct{ host, method, path, want string }{
		{"api.example.test", "GET", "/accounts/summary", `match "/accounts/summary" go to the API other`},
		{"api.example.test", "POST", "/accounts/summary", ""},
		{"api.example.test", "GET", "/accounts/", ""}, // a parameter is not empty
		{"api.example.test", "GET", "/accounts/{id}/entries", ""},
		{"api.example.test", "GET", "/**", `match "/accounts/{id}" go to the API accounts`},
		{"other.example.test", "GET", "/accounts/summary", "no subjectAltName for other.example.test"},
	} {
		f := newFolder(t)
		other := fmt.Sprintf(`
  - {name: other, hosts: [%s], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [%s], path: "%s"}]}
partners:`, tt.host, tt.method, tt.path)
		got := f.warnings("\npartners:", other, "apis: [accounts]", "apis: [accounts, other]")
		f.want(got, tt.want)
	}
}

// With many such routes the last warning counts the others.
func TestManyShadowedRoutes(t *testing.T) {
	f := newFolder(t)
	other := "\n  - {name: other, hosts: [api.example.test], upstream: {url: \"http://127.0.0.1:1\"}, routes: ["
	for i := range mostShadowed + 4 {
		other += fmt.Sprintf("{methods: [GET], path: \"/accounts/%d\"}, ", i)
	}
	got := strings.Split(f.warnings("\npartners:", other+"]}\npartners:", "apis: [accounts]", "apis: [accounts, other]"), "\n")
	if last := got[len(got)-1]; len(got) != mostShadowed || !strings.HasSuffix(last, "; 4 more routes of other APIs also are") {
		t.Errorf("got %d warnings, the last %q; want %d, the last about 4 more routes", len(got), last, mostShadowed)
	}
}

// A file that several settings name is a fault of each.
func TestFileOfSeveralSettings(t *testing.T) {
	cfg := &config.Config{Partners: config.Partners{List: []config.Partner{{Trust: []config.Path{"nowhere.pem"}}, {Trust: []config.Path{"nowhere.pem"}}}}}
	faults := Files(cfg)
	if len(faults) != 2 || faults[0].Path != "partners.list[0].trust[0]" || faults[1].Path != "partners.list[1].trust[0]" {
		t.Errorf("Files returned %v, want a fault of the trust of each partner", faults)
	}
}
